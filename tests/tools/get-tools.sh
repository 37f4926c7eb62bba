#!/usr/bin/env bash
# get-tools.sh [NAME...]: builds or unpacks the servers and tools that the tests use, pinned, only what is missing.
#
#   get-tools.sh              what default.txt lists
#   get-tools.sh etcd minio   these tools or groups
#   get-tools.sh --list       every name
#
# They go to ${ETCDGUARDIAN_TOOLS:-$HOME/.cache/etcdguardian/tools}, binaries to its bin/. Nothing else on the machine changes, but for
# `system`, `node` and `chromium`, which install distribution packages when they are absent. Anything that goes wrong ends it with a message.
#
# Sources are package registries only, everything pinned:
#   Go      the module's zip by its h1: hash below, its dependencies by the go.sum inside that zip;
#           etcd's replaced sibling modules by get-tools.d/etcd-sums.txt, Kubernetes by get-tools.d/k8s/go.sum
#   Debian  exact version and SHA-256 (downloaded and unpacked, not installed)
#   npm     get-tools.d/azurite/package-lock.json and get-tools.d/s3rver/package-lock.json
#   crates  an exact version with --locked
#   PyPI    notebooks/requirements.txt, get-tools.d/grafana.txt and get-tools.d/alibaba.txt, each into a virtual environment;
#           get-tools.d/hadolint.txt
# Needed: go, cargo, python3, gcc; node for azurite and s3rver; apt-get on Debian bookworm, amd64, for etcd 3.4.
# MinIO is AGPL-3.0: built here for tests, never shipped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${ETCDGUARDIAN_TOOLS:-$HOME/.cache/etcdguardian/tools}
bin=$tools/bin
stamps=$tools/.stamp # an empty file for each thing that is there, named after its version and pins
export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -mod=readonly' GOWORK=off

log() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() {
  log "FAILED: $*"
  exit 1
}
fingerprint() { sha256sum | cut -c1-12; }

# ---- how things are got ---------------------------------------------------------------------------------------------------

# go_module MODULE VERSION HASH: prints the module's folder in the module cache, its hash checked against the pin.
go_module() {
  local answer sum
  answer=$(cd / && GOFLAGS='' go mod download -json "$1@$2") || die "$1@$2: $(jq -r .Error <<<"$answer")"
  sum=$(jq -r .Sum <<<"$answer")
  [ "$sum" = "$3" ] || die "$1@$2: its hash is $sum, pinned is $3"
  jq -r .Dir <<<"$answer"
}

# go_tool NAME MODULE VERSION HASH PACKAGE [LDFLAGS]: builds one binary; a function prep_NAME runs in the writable copy before.
go_tool() {
  local name=$1 module=$2 version=$3 hash=$4 package=$5 ldflags=${6:-}
  local prep="prep_${name//[-.]/_}" stamp start folder work
  stamp="$stamps/$name-$version-$(printf '%s' "$hash$ldflags$(go env GOVERSION)$(declare -f "$prep" || true)" | fingerprint)"
  if [ -e "$stamp" ] && [ -x "$bin/$name" ]; then return; fi
  start=$SECONDS
  folder=$(go_module "$module" "$version" "$hash")
  work=$(mktemp -d "$tools/.build.XXXXXX")
  cp -r "$folder/." "$work"
  chmod -R u+w "$work"
  (
    cd "$work"
    if declare -F "$prep" >/dev/null; then "$prep"; fi
    go build -trimpath -ldflags "-s -w $ldflags" -o "$bin/.$name.new" "$package"
  ) || {
    rm -rf "$work"
    die "building $name $version"
  }
  rm -rf "$work" "$stamps/$name-"v*
  mv -f "$bin/.$name.new" "$bin/$name"
  touch "$stamp"
  log "built $name $version in $((SECONDS - start)) s"
}

# debian PACKAGE VERSION SHA256 PATH NAME: unpacks one file of a bookworm package for amd64.
debian() {
  local package=$1 version=$2 sum=$3 path=$4 name=$5
  local stamp="$stamps/deb-$package-$version" work file
  if [ -e "$stamp" ] && [ -x "$bin/$name" ]; then return; fi
  work=$(mktemp -d "$tools/.deb.XXXXXX")
  chmod 755 "$work"
  if ! (cd "$work" && apt-get download -q "$package=$version" >/dev/null 2>&1); then
    apt_update # the package lists are absent or old
    (cd "$work" && apt-get download -q "$package=$version") || {
      rm -rf "$work"
      die "apt-get download $package=$version (is this Debian bookworm on amd64?)"
    }
  fi
  file=$(ls "$work"/*.deb)
  echo "$sum  $file" | sha256sum --check --quiet - || die "$package: not the pinned file"
  dpkg-deb -x "$file" "$work"
  install -m755 "$work/$path" "$bin/$name"
  rm -rf "$work"
  touch "$stamp"
  log "unpacked $package $version"
}

apt_update() {
  log "apt-get update"
  as_root apt-get update -q >/dev/null || die "apt-get update"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -n "$@"
  else
    die "run this once as root: $*"
  fi
}

# cargo_tool NAME VERSION
cargo_tool() {
  local name=$1 version=$2 start=$SECONDS work
  if [ "$("$bin/$name" --version 2>/dev/null)" = "$name $version" ]; then return; fi
  work=$(mktemp -d "$tools/.build.XXXXXX")
  CARGO_TARGET_DIR=$work cargo install --quiet --locked --force --root "$tools" "$name@$version" || {
    rm -rf "$work"
    die "cargo install $name@$version"
  }
  rm -rf "$work"
  log "built $name $version in $((SECONDS - start)) s"
}

# npm_tool NAME COMMAND: a package with what its lock in get-tools.d/NAME names, in $tools/NAME.
npm_tool() {
  local name=$1 stamp
  stamp="$stamps/$name-$(fingerprint <"$here/get-tools.d/$name/package-lock.json")"
  if [ -e "$stamp" ] && [ -x "$bin/$2" ]; then return; fi
  mkdir -p "$tools/$name"
  cp "$here/get-tools.d/$name"/package*.json "$tools/$name"
  (cd "$tools/$name" && npm ci --silent --omit=dev --omit=optional --ignore-scripts >/dev/null) || die "npm ci $name"
  ln -sf "../$name/node_modules/.bin/$2" "$bin/$2"
  touch "$stamp"
  log "installed $name"
}

# python_with NAME LIST [OPTION...]: a virtual environment in $tools/NAME with what the list names, its versions fixed, and no more.
python_with() {
  local name=$1 list=$2 folder=$tools/$1 start=$SECONDS stamp builder
  shift 2
  stamp="$stamps/$name-$( (cat "$list" && python3 --version) | fingerprint)"
  if [ -e "$stamp" ] && [ -x "$folder/bin/python" ]; then return; fi
  rm -rf "$folder" "$stamps/$name"-*
  python3 -m venv "$folder" || die "python3 -m venv (on Debian: apt-get install python3-venv)"
  pip() { "$folder/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
  # What comes as sources is built with the list's own setuptools, which has to be there first.
  if builder=$(grep '^setuptools==' "$list"); then
    pip install --no-deps --only-binary :all: "$builder" || die "pip install $builder"
  fi
  pip install --no-deps "$@" --requirement "$list" || die "pip install --requirement $list (Python 3.11 or newer is needed)"
  pip check >/dev/null || die "$list does not fit together"
  touch "$stamp"
  log "installed the Python of $name in $((SECONDS - start)) s"
}

# ---- the tools ------------------------------------------------------------------------------------------------------------

get_system() {
  local missing=()
  for command in jq curl zstd; do
    command -v "$command" >/dev/null || missing+=("$command")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  apt_update
  as_root apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null || die "apt-get install ${missing[*]}"
  log "installed ${missing[*]}"
}

# What a Kubernetes node runs pods with, and a registry with what fills it. Any containerd and CNI plugins will do; the distribution's where there are none.
get_node() {
  local missing=() pair
  export PATH=$PATH:/usr/sbin:/sbin
  for pair in containerd:containerd ctr:containerd runc:runc skopeo:skopeo iptables:iptables ip:iproute2 openssl:openssl sysctl:procps; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ -x /opt/cni/bin/bridge ] || [ -x /usr/lib/cni/bridge ] || missing+=(containernetworking-plugins)
  [ -d /usr/share/zoneinfo/Europe ] || missing+=(tzdata)
  debian docker-registry 2.8.2+ds1-1 a9bd06c0e006854608f8469b4371743f40604ad90975532bb3b7ceeb72fe2913 usr/bin/docker-registry docker-registry
  go_tool crictl sigs.k8s.io/cri-tools v1.34.0 h1:KqL9EJ+WgHtz1HR1exezm91n+o8O2uMLs/eHzHJHAWw= ./cmd/crictl
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  apt_update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get install ${missing[*]}"
  log "installed ${missing[*]}"
}

# etcd's go.mod replaces its siblings with ../api and so on, which a module zip does not hold: take the published ones instead.
etcd_prep() {
  local path
  go mod edit -json | jq -r '.Replace[]?.Old.Path' | while read -r path; do go mod edit -dropreplace="$path"; done
  awk -v release="$1" '$1 == release { print $2, $3, "h1:" $4; print $2, $3 "/go.mod", "h1:" $5 }' "$here/get-tools.d/etcd-sums.txt" >>go.sum
}
prep_etcd_3_5() { etcd_prep 3.5.35; }
prep_etcdctl_3_5() { etcd_prep 3.5.35; }
prep_etcdutl_3_5() { etcd_prep 3.5.35; }
prep_etcd_3_6() { etcd_prep 3.6.16; }
prep_etcdctl_3_6() { etcd_prep 3.6.16; }
prep_etcdutl_3_6() { etcd_prep 3.6.16; }
prep_etcd_3_7() { etcd_prep 3.7.3; }
prep_etcdctl_3_7() { etcd_prep 3.7.3; }
prep_etcdutl_3_7() { etcd_prep 3.7.3; }

# etcd_release MINOR VERSION SERVER CTL UTL: the three binaries of a release with the hashes of their modules.
etcd_release() {
  go_tool "etcd-$1" go.etcd.io/etcd/server/v3 "v$2" "h1:$3" .
  go_tool "etcdctl-$1" go.etcd.io/etcd/etcdctl/v3 "v$2" "h1:$4" .
  go_tool "etcdutl-$1" go.etcd.io/etcd/etcdutl/v3 "v$2" "h1:$5" .
}
# The module proxy has no 3.4 that is as new as Debian's.
get_etcd34() {
  debian etcd-server 3.4.23-4+b4 3a9445d4560ad6de1c375756b2a17d97713df44cbd20a658c871fe108af7ef5d usr/bin/etcd etcd-3.4
  debian etcd-client 3.4.23-4+b4 db3a484d5d924b50bf71f459ee544ecd7b11c25dc2f6becc0c50352d67299cc8 usr/bin/etcdctl etcdctl-3.4
}
get_etcd35() {
  etcd_release 3.5 3.5.35 FbHzp+5uIf1hu9KDmM4G/i/SjzDpxAABlWF8v8ZMn88= \
    D1m1+fyuzHWGMxP1TUMO1Qdrxvvk/KpD9Hrwdvekl60= pavOhppEzKB2cWej1RFcpHX/BnVlk+oMS/s/HHm6idc=
}
get_etcd36() {
  etcd_release 3.6 3.6.16 sLkpvz3RFtiNd/yPrZBKz5kT+XO1ZJkhmuUJeqc7OmA= \
    vxr4EySgAbHcd5OiYI/IwRnQmC4y5OmusSPLYxQ84/I= ghP1wTi/25g43jlrhOmPz0X4D0dXAYBt+nbhYicHcJ0=
}
get_etcd37() {
  etcd_release 3.7 3.7.3 KcTZ/aEZrOiQe0/kdr7iYYcvyfbEoOwDOacHkz8xwZc= \
    afjzE22RBDqciPNGDNExe2/kWfJAZsOskZPefffTEDM= JwG6zadsUzBYihuZLn3IIfB2Mi+UX2d+aUybvcfunyk=
}
# bbolt's own command: the peer of the benches, and the maker of files that etcd does not write on Linux.
get_bbolt() {
  go_tool bbolt go.etcd.io/bbolt v1.4.3 h1:dEadXpI6G79deX5prL3QRNP6JB8UxVkqo4UPnHaNXJo= ./cmd/bbolt
}

get_minio() {
  local set="-X github.com/minio/minio/cmd" release=2026-02-12T20:18:48Z
  go_tool minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA= . \
    "$set.Version=$release $set.ReleaseTag=RELEASE.${release//:/-} $set.CommitID=7aac2a2c5b7c"
}
get_versitygw() {
  go_tool versitygw github.com/versity/versitygw v1.8.0 h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc= ./cmd/versitygw
}
get_azurite() { npm_tool azurite azurite-blob; }
# An S3 server that ignores the conditions of a write.
get_s3rver() { npm_tool s3rver s3rver; }
get_rclone() { go_tool rclone github.com/rclone/rclone v1.76.0 h1:Gabl7KmhxyOXyMtFNA/s6wZ3LZ/2x0NP7xZLNEW3Guo= .; }
get_mailpit() {
  go_tool mailpit github.com/axllent/mailpit v1.27.11 h1:57cO1Tlekptm80OBxry0wW/9Nc1WxzEjh12SC2LCrx0= . \
    "-X github.com/axllent/mailpit/config.Version=v1.27.11"
}
get_toxiproxy() {
  local part
  for part in server cli; do
    go_tool "toxiproxy-$part" github.com/Shopify/toxiproxy/v2 v2.5.0 h1:i4LPT+qrSlKNtQf5QliVjdP08GyAH8+BUIc9gT0eahc= "./cmd/$part" \
      "-X github.com/Shopify/toxiproxy/v2.Version=2.5.0"
  done
}
get_age() {
  local part
  for part in age age-keygen; do
    go_tool "$part" filippo.io/age v1.2.1 h1:X0TZjehAZylOIj4DubWYU1vWQxv9bJpo+Uu2/LGhi1o= "./cmd/$part" "-X main.Version=v1.2.1"
  done
}
# The web pages are not in the module zips: both serve their API only.
get_prometheus() {
  local part
  for part in promtool prometheus; do
    go_tool "$part" github.com/prometheus/prometheus v0.316.0 h1:f1GRFerhTMKQma+awCoC9T820ecWeGSdF+xAlMHzZzM= "./cmd/$part" \
      "-X github.com/prometheus/common/version.Version=3.16.0"
  done
}
prep_alertmanager() {
  mkdir -p ui/app/dist
  echo '<!doctype html>UI not built' >ui/app/dist/index.html
}
get_alertmanager() {
  local part
  for part in alertmanager amtool; do
    go_tool "$part" github.com/prometheus/alertmanager v0.34.2 h1:4oOnHs4J41X9n+7MucFjA3I5i5MtasjWTnIY27q5Qkw= "./cmd/$part" \
      "-X github.com/prometheus/common/version.Version=0.34.2"
  done
}
get_helm() {
  go_tool helm helm.sh/helm/v3 v3.22.0 h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU= ./cmd/helm \
    "-X helm.sh/helm/v3/internal/version.version=v3.22.0"
}
get_kubeconform() {
  go_tool kubeconform github.com/yannh/kubeconform v0.8.0 h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug= ./cmd/kubeconform
}
# Strict JSON schemas of Kubernetes 1.34 for kubeconform, which then needs no network.
get_schemas() {
  local stamp source
  stamp="$stamps/schemas-1.34.0-$(fingerprint <"$here/get-tools.d/k8s-schemas.py")"
  if [ -e "$stamp" ]; then return; fi
  source=$(go_module k8s.io/kubernetes v1.34.0 h1:NvUrwPAVB4W3mSOpJ/RtNGHWWYyUP/xPaX5rUSpzA0w=)
  rm -rf "$tools/schemas"
  python3 "$here/get-tools.d/k8s-schemas.py" "$source/api/openapi-spec/swagger.json" "$tools/schemas" || die "schemas"
  touch "$stamp"
}
# Velero's server and its plugin for S3, which the server starts: `velero server` runs beside a bare API server. Velero asks for
# k8s.io v0.33.12, whose cli-runtime not every module proxy has; .13 is the same minor release.
prep_velero() {
  local part
  for part in api apimachinery cli-runtime client-go; do go mod edit -require "k8s.io/$part@v0.33.13"; done
  cat >>go.sum "$here/get-tools.d/velero-sums.txt"
  # Its controllers' own metrics are on port 8080 of every interface, and no flag moves them: two servers could not run side by side.
  sed -i -e 's|^\tctrl "sigs.k8s.io/controller-runtime"$|&\n\tmetricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"|' \
    -e 's|^\t\t\tScheme: scheme,$|&\n\t\t\tMetrics: metricsserver.Options{BindAddress: "0"},|' pkg/cmd/server/server.go
  grep -q 'Metrics: metricsserver' pkg/cmd/server/server.go || die "velero: its metrics cannot be turned off"
}
get_velero() {
  get velero-crds
  go_tool velero github.com/vmware-tanzu/velero v1.18.3 h1:9uwN5yxTWQl9PsF5ljX4xiG+7VIq3I9mxOQ0DyyZ31A= ./cmd/velero \
    "-X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.18.3"
  go_tool velero-plugin-for-aws github.com/vmware-tanzu/velero-plugin-for-aws v1.14.3 \
    h1:3WuiNvatCGXWp/TfeH9e5LAq4skGMHUDxRMeej2FCAM= ./velero-plugin-for-aws
}
# Velero's resource definitions, as they lie in its module.
get_velero-crds() {
  local stamp source
  stamp="$stamps/velero-crds-v1.18.3-v2alpha1"
  if [ -e "$stamp" ]; then return; fi
  source=$(go_module github.com/vmware-tanzu/velero v1.18.3 h1:9uwN5yxTWQl9PsF5ljX4xiG+7VIq3I9mxOQ0DyyZ31A=)
  rm -rf "$tools/velero-crds"
  cp -r "$source/config/crd/v1/bases" "$tools/velero-crds"
  chmod -R u+w "$tools/velero-crds"
  cp "$source"/config/crd/v2alpha1/bases/*.yaml "$tools/velero-crds" # the server looks for all of them
  touch "$stamp"
}
# get-tools.d/k8s/go.mod replaces each staging module with its published twin.
kubernetes() {
  local part stamp set="-X k8s.io/component-base/version" start
  for part in "$@"; do
    start=$SECONDS
    stamp="$stamps/$part-$(cat "$here"/get-tools.d/k8s/go.* | fingerprint)"
    if [ -e "$stamp" ] && [ -x "$bin/$part" ]; then continue; fi
    (cd "$here/get-tools.d/k8s" && go build \
      -ldflags "-s -w $set.gitVersion=v1.34.0 $set.gitMajor=1 $set.gitMinor=34" -o "$bin/.$part.new" "k8s.io/kubernetes/cmd/$part") ||
      die "building $part"
    mv -f "$bin/.$part.new" "$bin/$part"
    touch "$stamp"
    log "built $part in $((SECONDS - start)) s"
  done
}
# Any kubectl will do; the distribution's when there is none.
get_kubectl() {
  local found
  if [ -x "$bin/kubectl" ]; then return; fi
  if found=$(command -v kubectl); then
    ln -sf "$found" "$bin/kubectl"
  else
    debian kubernetes-client 1.20.5+really1.20.2-1.1+deb12u1 \
      087c42dc26c847740043cdaa8b16db666be5591a1da957f822922aa1b677494e usr/bin/kubectl kubectl
  fi
}
get_k8s() { get_kubectl && kubernetes kube-apiserver kube-controller-manager; } # enough for controllers without pods
get_cluster() { get_k8s && kubernetes kube-scheduler kubelet kube-proxy; } # and for a node
get_cargo-deny() { cargo_tool cargo-deny 0.20.2; }

# A browser for the status page, when the machine has none.
get_chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then return; fi
  done
  apt_update
  as_root apt-get install -q -y --no-install-recommends chromium fonts-dejavu-core >/dev/null || die "apt-get install chromium"
  log "installed chromium"
}

# A Python with what the notebooks import: $tools/notebooks/bin/python.
get_notebooks() { python_with notebooks "$here/../../notebooks/requirements.txt" --only-binary :all:; }
# One with Grafana's own types of a dashboard.
get_grafana() { python_with grafana "$here/get-tools.d/grafana.txt" --only-binary :all: --require-hashes; }
# One with Alibaba Cloud's own SDKs, of which some come as sources only.
get_alibaba() { python_with alibaba "$here/get-tools.d/alibaba.txt" --no-build-isolation; }

# A linter of Dockerfiles, which understands them as an engine would.
get_hadolint() {
  local stamp work list=$here/get-tools.d/hadolint.txt
  stamp="$stamps/hadolint-$(fingerprint <"$list")"
  if [ -e "$stamp" ] && [ -x "$bin/hadolint" ]; then return; fi
  work=$(mktemp -d "$tools/.pip.XXXXXX")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --dest "$work" \
    --requirement "$list" || die "pip download --requirement $list"
  python3 -m zipfile -e "$work"/*.whl "$work"
  install -m755 "$work"/*.data/scripts/hadolint "$bin/hadolint"
  rm -rf "$work" "$stamps"/hadolint-*
  touch "$stamp"
  log "unpacked hadolint"
}

# Groups.
get_etcd() { get etcd34 etcd35 etcd36 etcd37; }
get_e2e() { get system etcd36 versitygw helm cluster node; } # tests/e2e
get_stores() { get versitygw minio azurite s3rver alibaba; }
get_demo() { get system etcd36 mailpit versitygw; } # demo/demo.sh adds prometheus when there is none on PATH

# ---- --------------------------------------------------------------------------------------------------------------------

get() {
  local name
  for name in "$@"; do
    declare -F "get_$name" >/dev/null || die "no tool or group $name; --list prints them"
    "get_$name"
  done
}

if [ "${1:-}" = --list ]; then
  declare -F | sed -n 's/^declare -f get_//p'
  exit
fi
mkdir -p "$bin" "$stamps"
# One at a time: two clones on a machine share the folder.
exec 9>"$tools/.lock"
flock -n 9 || {
  log "another get-tools.sh is at work here; waiting for it"
  flock 9
}
if [ $# -eq 0 ]; then
  # shellcheck disable=SC2046 # names have no spaces
  set -- $(sed 's/#.*//' "$here/default.txt")
fi
# What this script itself works with comes first.
get system "$@"
log "tools are ready in $bin ($SECONDS s)"
