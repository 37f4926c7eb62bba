# Sourced by story.sh: a one-node Kubernetes in this network namespace. $TOOLS has the binaries, $W is its folder.
# shellcheck shell=bash

export KUBECONFIG=$W/admin.kubeconfig
node=10.99.0.1 # on a bridge: every kernel has those, and few have dummy devices

say() { printf '%s %4s s  %s\n' "$(date +%T)" "$SECONDS" "$*"; }
die() {
  say "FAILED: $*" >&2
  exit 1
}
# until_ok SECONDS WHAT COMMAND...: asks until it succeeds.
until_ok() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >"$W/asked" 2>&1; do
    [ "$SECONDS" -lt "$limit" ] || {
      cat "$W/asked" >&2
      die "$what: not in time"
    }
    sleep 0.3
  done
}
# page_line PAGE WORDS: the first line of a page of the documentation that begins with these words, which has to be there.
page_line() {
  awk -v words="$2" '{ sub(/^ +/, ""); sub(/^\$ /, "") } index($0, words) == 1 { print; found = 1; exit } END { exit !found }' "$REPOSITORY/$1" ||
    die "$1 has no line that begins with '$2'"
}
background() {
  local name=$1
  shift
  "$@" >"$W/$name.log" 2>&1 </dev/null &
}

certificates() {
  mkdir -p "$W/pki"
  cd "$W/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -subj /CN=e2e-ca -days 2 2>/dev/null
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sa.key 2>/dev/null
  openssl pkey -in sa.key -pubout -out sa.pub
  certificate server /CN=kube-apiserver "subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:$node"
  certificate admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
  certificate node /O=system:nodes/CN=system:node:node1 "extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=DNS:node1,IP:$node"
  cd "$W"
  local user
  for user in admin node; do
    cat >"$W/$user.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://$node:6443", certificate-authority: $W/pki/ca.crt}}]
users: [{name: $user, user: {client-certificate: $W/pki/$user.crt, client-key: $W/pki/$user.key}}]
contexts: [{name: e2e, context: {cluster: e2e, user: $user}}]
current-context: e2e
YAML
  done
}
# certificate NAME SUBJECT EXTENSIONS
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 2 -extfile <(printf '%b' "$3") 2>/dev/null
}

control_plane() {
  local own="--kubeconfig=$W/admin.kubeconfig --leader-elect=false --authentication-kubeconfig=$W/admin.kubeconfig --authorization-kubeconfig=$W/admin.kubeconfig"
  background etcd "$TOOLS/etcd-3.6" --data-dir "$W/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:12379 \
    --advertise-client-urls http://127.0.0.1:12379 --listen-peer-urls http://127.0.0.1:12380 \
    --initial-advertise-peer-urls http://127.0.0.1:12380 --initial-cluster default=http://127.0.0.1:12380
  background apiserver "$TOOLS/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address=$node --tls-cert-file="$W/pki/server.crt" --tls-private-key-file="$W/pki/server.key" \
    --client-ca-file="$W/pki/ca.crt" --kubelet-client-certificate="$W/pki/admin.crt" --kubelet-client-key="$W/pki/admin.key" \
    --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$W/pki/sa.pub" --service-account-signing-key-file="$W/pki/sa.key" \
    --authorization-mode=Node,RBAC --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true
  until_ok 90 "the API server" kubectl get --raw /readyz
  # shellcheck disable=SC2086 # words
  background controllers "$TOOLS/kube-controller-manager" $own --root-ca-file="$W/pki/ca.crt" \
    --service-account-private-key-file="$W/pki/sa.key" --use-service-account-credentials
  # shellcheck disable=SC2086
  background scheduler "$TOOLS/kube-scheduler" $own
  # The kernel's own limits on connections may not be ours to set.
  background proxy "$TOOLS/kube-proxy" --kubeconfig="$W/admin.kubeconfig" --proxy-mode=iptables --cluster-cidr=10.98.0.0/24 \
    --hostname-override=node1 --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

worker() {
  local plugins=/opt/cni/bin
  [ -x $plugins/bridge ] || plugins=/usr/lib/cni
  mkdir -p "$W"/{containerd,kubelet,cni,kubernetes/manifests}
  cat >"$W/cni/10-bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$W/cni/addresses", "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc dies with "final child PID from pipe: EOF".
  cat >"$W/containerd.toml" <<TOML
version = 2
root = "$W/containerd/root"
state = "$W/containerd/state"
[grpc]
  address = "$W/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$plugins"
    conf_dir = "$W/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$W/registries"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
TOML
  background containerd containerd --config "$W/containerd.toml"
  cat >"$W/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /
failSwapOn: false
failCgroupV1: false
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
staticPodPath: $W/kubernetes/manifests
containerRuntimeEndpoint: unix://$W/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $W/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $W/pki/node.crt
tlsPrivateKeyFile: $W/pki/node.key
evictionHard: {memory.available: "1Mi", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
YAML
  until_ok 30 containerd ctr --address "$W/containerd.sock" version
  background kubelet "$TOOLS/kubelet" --config="$W/kubelet.yaml" --kubeconfig="$W/node.kubeconfig" --root-dir="$W/kubelet" \
    --cert-dir="$W/pki" --hostname-override=node1 --node-ip=$node
}

# image NAME:TAG BINARY AS [FILE]: makes an image of a binary and gives it to the node; its archive is left in FILE.
image() {
  local file=${4:-$W/image.tar}
  mkdir -p "$W/binaries"
  cp "$2" "$W/binaries/$3"
  "$REPOSITORY/tools/image.sh" "$file" "$1" "$W/binaries/$3" 2>/dev/null || die "image.sh for $1"
  ctr --address "$W/containerd.sock" --namespace k8s.io images import --snapshotter native "$file" >/dev/null || die "ctr takes the image $1"
  rm -rf "$W/image.tar" "$W/binaries"
}

# A registry for the names that the pages use, as skopeo and the node find it.
registry() {
  local name
  # The names lead to this node, by its hosts alone.
  cp /etc/hosts "$W/hosts"
  printf '%s registry.example.com registry.internal\n' "$node" >>"$W/hosts"
  mount --bind "$W/hosts" /etc/hosts
  mkdir -p "$W/home/.config/containers"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$W/home/.config/containers/policy.json"
  for name in registry.example.com registry.internal; do
    mkdir -p "$W/registries/$name"
    printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$name" "$name" >"$W/registries/$name/hosts.toml"
    printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$name" >>"$W/home/.config/containers/registries.conf"
  done
  printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: "%s/registry"}}\nhttp: {addr: "%s:80"}\n' "$W" "$node" >"$W/registry.yaml"
  background registry "$TOOLS/docker-registry" serve "$W/registry.yaml"
  until_ok 30 "the registry" curl -fsS "http://registry.example.com/v2/"
}

cluster_up() {
  mount --make-rshared /
  # What containerd and its plugins leave there is to go with this node, not to stay on the machine.
  mkdir -p /run/netns /run/containerd
  mount -t tmpfs e2e /run/netns
  mount -t tmpfs e2e /run/containerd
  ip link set lo up
  ip link add node0 type bridge
  ip address add $node/24 dev node0
  ip link set node0 up
  ip route add default dev node0
  sysctl -qw net.ipv4.ip_forward=1
  certificates
  control_plane
  worker
  # What holds a pod's namespaces: it waits for its end.
  printf '#include <signal.h>\n#include <unistd.h>\nstatic void end(int s) { _exit(0); }\nint main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }\n' >"$W/pause.c"
  gcc -O2 -o "$W/pause" "$W/pause.c"
  image docker.io/local/pause:1 "$W/pause" pause
  until_ok 90 "the node" kubectl wait --for=condition=Ready node/node1 --timeout=1s
}

# What a person would look at when something went wrong.
diagnose() {
  {
    kubectl get pods,jobs,egb,egs,egr -A -o wide
    kubectl get events -A --sort-by=.lastTimestamp | tail -40
    kubectl get egb,egs,egr -A -o yaml | grep -E 'name:|phase|message' | tail -60
    kubectl -n etcdguardian logs deployment/etcdguardian --tail=60
    tail -n 15 "$W"/{apiserver,kubelet,containerd,controllers}.log
  } >&2 2>&1 || true
}
