#!/usr/bin/env bash
# footprint.sh [BINARY [COUNT [SECONDS]]]: what the idle operator takes with COUNT schedules loaded: memory, and share of a core.
#
# A real etcd and kube-apiserver on loopback, the schedules in it, and the optimised operator; nothing is due. It prints the operator's
# memory and the processor time that it took in SECONDS, and fails above the targets: 40 MiB, 0.25 % of a core. Memory is the working
# set, as the kubelet counts it for `kubectl top pod` and evictions: all that the operator's control group uses, but for pages of files
# (here of its own code) that the kernel takes back whenever it likes. So it needs root and the memory controller.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=${ETCDGUARDIAN_TOOLS:-$HOME/.cache/etcdguardian/tools}/bin
binary=$(readlink -f "${1:-$repository/target/release/etcdguardian}") count=${2:-1000} seconds=${3:-300}
group=/sys/fs/cgroup/memory/etcdguardian-footprint.$$ usage=memory.usage_in_bytes inactive=total_inactive_file
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  group=/sys/fs/cgroup/etcdguardian-footprint.$$ usage=memory.current inactive=inactive_file
fi
mkdir "$group"
W=$(mktemp -d /tmp/etcdguardian-footprint.XXXXXX)
started=()
clean() {
  [ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rmdir "$group" || true
  rm -rf "$W"
}
trap clean EXIT
background() {
  local name=$1
  shift
  "$@" >"$W/$name.log" 2>&1 </dev/null &
  started+=($!)
}
kubectl() { "$TOOLS/kubectl" --kubeconfig "$W/kubeconfig" "$@"; }
until_ok() {
  local limit=$((SECONDS + 60))
  until "$@" >"$W/asked" 2>&1; do
    [ "$SECONDS" -lt "$limit" ] || {
      cat "$W/asked" >&2
      tail -n 20 "$W"/*.log >&2
      exit 1
    }
    sleep 0.3
  done
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
etcd=$(free_port) peer=$(free_port) api=$(free_port)

cd "$W"
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${ec[@]}" -keyout ca.key -out ca.crt -subj /CN=footprint-ca -days 2 2>/dev/null
openssl req "${ec[@]}" -keyout key -out csr -subj /CN=footprint 2>/dev/null
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -out crt -days 2 -extfile <(echo subjectAltName=IP:127.0.0.1) 2>/dev/null
echo 'admin-token,admin,1,system:masters' >tokens
cat >kubeconfig <<YAML
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$api", certificate-authority: $W/ca.crt}}]
users: [{name: u, user: {token: admin-token}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: default}}]
current-context: x
YAML
background etcd "$TOOLS/etcd-3.6" --data-dir "$W/etcd" --unsafe-no-fsync --listen-client-urls "http://127.0.0.1:$etcd" \
  --advertise-client-urls "http://127.0.0.1:$etcd" --listen-peer-urls "http://127.0.0.1:$peer" \
  --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer"
background apiserver "$TOOLS/kube-apiserver" "--etcd-servers=http://127.0.0.1:$etcd" "--secure-port=$api" --bind-address=127.0.0.1 \
  --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --tls-cert-file=crt --tls-private-key-file=key \
  --service-account-key-file=crt --service-account-signing-key-file=key --service-account-issuer=https://kubernetes.default.svc \
  --token-auth-file=tokens --authorization-mode=RBAC --service-cluster-ip-range=10.96.0.0/24
until_ok kubectl get --raw /readyz
kubectl apply --server-side -f "$repository/crds" >/dev/null
kubectl wait --for=condition=Established crd --all --timeout=60s >/dev/null
mkdir store
for i in $(seq "$count"); do
  cat <<YAML
---
apiVersion: etcdguardian.io/v1alpha1
kind: EtcdBackupSchedule
metadata: {name: s-$i, namespace: default}
spec:
  schedule: "$((i % 60)) 3 29 2 *"
  backupTemplate: {spec: {backupMode: Full, storageLocation: {provider: Local, bucket: $W/store}, retentionPolicy: {maxBackups: 30, maxAge: 720h}}}
YAML
done >schedules.yaml
kubectl create -f schedules.yaml >/dev/null
cat >guardian.yaml <<YAML
cluster: {name: footprint, endpoints: ["http://127.0.0.1:$etcd"]}
stateDir: $W/state
serve: {listen: ""}
operator: {namespace: default}
YAML
# Its code is counted too: from a file of its own, of which nothing is in memory yet.
cp "$binary" etcdguardian
sync etcdguardian
dd if=etcdguardian iflag=nocache count=0 status=none
# As the chart starts it.
KUBECONFIG=$W/kubeconfig MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX:-2} TOKIO_WORKER_THREADS=2 background operator \
  bash -c "echo \$\$ >'$group/cgroup.procs' && exec ./etcdguardian operator --config guardian.yaml"
operator=${started[-1]}
followed() { [ "$(kubectl get egs -o jsonpath='{range .items[*]}{.status.phase}{"\n"}{end}' | grep -c .)" = "$count" ]; }
until_ok followed
ticks() { awk '{ print $14 + $15 }' "/proc/$operator/stat"; }
working_set() {
  awk -v inactive="$inactive" -v used="$(cat "$group/$usage")" '$1 == inactive { printf "%.1f", (used - $2) / 1024 / 1024 }' "$group/memory.stat"
}
field() { awk -v field="$1:" '$1 == field { printf "%.1f", $2 / 1024 }' "/proc/$operator/status"; }
echo "$count schedules are followed; after $SECONDS s: a working set of $(working_set) MiB, $(ticks) ticks of computing"
sleep 20 # the first looks are over
before=$(ticks)
sleep "$seconds"
used=$(($(ticks) - before))
memory=$(working_set)
share=$(awk -v ticks="$used" -v hertz="$(getconf CLK_TCK)" -v seconds="$seconds" 'BEGIN { printf "%.3f", 100 * ticks / hertz / seconds }')
echo "idle for $seconds s: a working set of $memory MiB ($(field RssAnon) MiB of its own memory; resident with mapped code: $(field VmRSS) MiB), $share % of a core"
awk -v memory="$memory" -v share="$share" 'BEGIN { exit !(memory < 40 && share < 0.25) }' || {
  echo "above the targets of 40 MiB and 0.25 %" >&2
  exit 1
}
