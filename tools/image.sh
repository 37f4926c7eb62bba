#!/usr/bin/env bash
# image.sh FILE NAME:TAG BINARY: writes a container image to FILE without a container engine, from one built binary.
#
# The image holds the binary, the few libraries that it is linked with, the certificate authorities and time zones of this
# machine, and an unprivileged user; nothing in it can be run but the binary. FILE is an OCI archive and a Docker archive at once:
#   docker load -i FILE · podman load -i FILE · ctr -n k8s.io images import FILE · skopeo copy docker-archive:FILE docker://…
# The same binary makes the same file, byte for byte.
set -euo pipefail
umask 022
[ $# = 3 ] || {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
file=$1 name=$2 binary=$3
program=$(basename "$binary")
tag=${name##*:}
case $tag in */* | "$name")
  echo "image.sh: '$name' has no tag: name it as registry.example.com/etcdguardian:1.0" >&2
  exit 2
  ;;
esac
# The name in full, as container runtimes keep it.
case ${name%%/*} in
"$name") full=docker.io/library/$name ;;
*.* | *:* | localhost) full=$name ;;
*) full=docker.io/$name ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root image=$work/image
mkdir -p "$root"/{etc/ssl/certs,usr/local/bin,tmp,licenses} "$image/blobs/sha256"
install -m755 "$binary" "$root/usr/local/bin/$program"
# Symbols are of use to debuggers alone, which are not in the image.
strip --strip-debug "$root/usr/local/bin/$program" 2>/dev/null || true
# The linker and the libraries, each where the binary looks for it; a static binary has none.
{ ldd "$binary" 2>/dev/null || true; } | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
  install -D -m755 "$(readlink -f "$library")" "$root$library"
done
authorities=/etc/ssl/certs/ca-certificates.crt
[ -r "$authorities" ] || {
  echo "image.sh: $authorities is missing: install the package ca-certificates" >&2
  exit 1
}
install -m644 "$authorities" "$root$authorities"
# Time zones, for schedules that name one.
[ -d /usr/share/zoneinfo/Europe ] || {
  echo "image.sh: /usr/share/zoneinfo is missing: install the package tzdata" >&2
  exit 1
}
mkdir -p "$root/usr/share"
cp -rL /usr/share/zoneinfo "$root/usr/share/zoneinfo"
rm -rf "$root"/usr/share/zoneinfo/{posix,right}
install -m644 "$(dirname "$0")/../LICENSE" "$root/licenses/LICENSE"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"

archive() { tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu --directory "$1" .; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
# blob FILE: takes it in under its digest, which it prints.
blob() {
  local sum
  sum=$(digest "$1")
  mv "$1" "$image/blobs/sha256/$sum"
  echo "$sum"
}
bytes() { stat -c %s "$image/blobs/sha256/$1"; }

archive "$root" >"$work/layer.tar"
plain=$(digest "$work/layer.tar")
gzip -n -1 "$work/layer.tar"
layer=$(blob "$work/layer.tar.gz")
case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
cat >"$work/config" <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$machine","os":"linux","config":{"User":"65532:65532","Entrypoint":["/usr/local/bin/$program"],"Env":["PATH=/usr/local/bin","SSL_CERT_FILE=$authorities"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$plain"]}}
JSON
config=$(blob "$work/config")
cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(bytes "$config")},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$(bytes "$layer")}]}
JSON
manifest=$(blob "$work/manifest")
cat >"$image/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$(bytes "$manifest"),"annotations":{"io.containerd.image.name":"$full","org.opencontainers.image.ref.name":"$tag"}}]}
JSON
printf '{"imageLayoutVersion":"1.0.0"}' >"$image/oci-layout"
printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]\n' "$config" "$name" "$layer" >"$image/manifest.json"
mkdir -p "$(dirname "$file")"
archive "$image" >"$file.new"
mv "$file.new" "$file"
echo "$file: $name, $(($(stat -c %s "$file") / 1048576)) MiB" >&2
