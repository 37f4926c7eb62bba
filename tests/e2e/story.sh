# Runs inside the namespaces that run.sh makes: a cluster comes up, EtcdGuardian is installed by helm, a schedule backs a
# three-member etcd up through Jobs, its data is destroyed, and an EtcdRestore brings every key back.
# shellcheck shell=bash
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster.sh
. "$here/cluster.sh"
trap 'code=$?; [ "$code" = 0 ] || diagnose; exit "$code"' EXIT

say "a cluster of one node"
cluster_up

say "images, made without a container engine"
mkdir -p "$W/walk"
image etcdguardian:e2e "$BINARY" etcdguardian "$W/walk/etcdguardian.tar"
image etcd:3.6.16 "$TOOLS/etcd-3.6" etcd

say "a store, and an etcd of three members"
mkdir -p "$W/store/backups" "$W/volumes"/{0,1,2} "$W/iam"
background versitygw env ROOT_ACCESS_KEY_ID=vgw ROOT_SECRET_ACCESS_KEY=vgwsecret \
  "$TOOLS/versitygw" --port "$node:7070" --access vgw --secret vgwsecret --iam-dir "$W/iam" --quiet posix "$W/store"
store=$!
kubectl create namespace shop >/dev/null
kubectl create namespace etcdguardian >/dev/null
for namespace in shop etcdguardian; do
  kubectl -n "$namespace" create secret generic s3 --from-literal=access-key-id=vgw --from-literal=secret-access-key=vgwsecret >/dev/null
done
# Whose rights the hooks of objects in this namespace have.
kubectl -n shop create role hooks --verb=create --resource=pods/exec >/dev/null
kubectl -n shop create rolebinding hooks --role=hooks --serviceaccount=shop:default >/dev/null
sed "s#VOLUMES#$W/volumes#" "$here/etcd.yaml" | kubectl apply -f - >/dev/null
etcdctl() { "$TOOLS/etcdctl-3.6" --endpoints=http://10.96.1.10:2379,http://10.96.1.11:2379,http://10.96.1.12:2379 "$@"; }

say "the chart, by helm"
export HELM_CACHE_HOME=$W/helm HELM_CONFIG_HOME=$W/helm HELM_DATA_HOME=$W/helm
chart=(helm upgrade --install etcdguardian "$REPOSITORY/charts/etcdguardian" --namespace etcdguardian --wait --timeout 120s
  --set image.repository=etcdguardian,image.tag=e2e,image.pullPolicy=Never --set schedules.main=null,operator.execHooks=true,rbac.exports=true
  --set "storage.s3.enabled=true,storage.s3.bucket=backups,storage.s3.region=us-east-1,storage.s3.endpoint=http://$node:7070,storage.s3.credentialsSecret=s3")
"${chart[@]}" >"$W/helm.log" 2>&1 || {
  cat "$W/helm.log" >&2
  die "helm install"
}
grep -q "NOTHING IS BACKED UP YET" "$W/helm.log" || die "the chart's notes: $(cat "$W/helm.log")"
until_ok 120 "three members" kubectl -n shop rollout status statefulset/etcd --timeout=1s
until_ok 60 "a quorum" etcdctl endpoint health

say "five hundred keys"
for batch in 0 1 2 3 4; do
  {
    echo
    for i in $(seq 100); do echo "put /registry/shop/$batch-$i value-$batch-$i"; done
    printf '\n\n'
  } | etcdctl txn >/dev/null
done
keys() { etcdctl get --prefix /registry/ | sha256sum; }
[ "$(etcdctl get --prefix /registry/ --count-only --write-out=fields | awk '/Count/ { print $3 }')" = 500 ] || die "the keys are not there"

say "a schedule backs it up, in Jobs"
kubectl apply -f "$here/schedule.yaml" >/dev/null
completed() { [ -n "$(kubectl -n shop get egb -o jsonpath='{.items[?(@.status.phase=="Completed")].metadata.name}')" ]; }
until_ok 120 "a completed backup" completed
backup=$(kubectl -n shop get egb -o jsonpath='{.items[0].metadata.name}')
field() { kubectl -n shop get "$1" "$2" -o jsonpath="{$3}"; }
level=$(field egb "$backup" .status.validationResult.level)
[ "$level" = Consistent ] || die "$backup is proved to level '$level' only"
until_ok 60 "the end of its Job" kubectl -n etcdguardian wait --for=condition=Complete --timeout=1s "job/eg-backup-$(field egb "$backup" .metadata.uid)-1"
[ -n "$(find "$W/store/backups" -name manifest.json)" ] || die "the store holds no manifest"

say "what is written later is recorded by the operator, and published across a compaction"
until_ok 60 "the standing watch" kubectl -n shop wait --for=condition=Recording --timeout=1s egs/shop
for i in $(seq 20); do etcdctl put "/registry/shop/0-$i" "changed-$i" >/dev/null; done
etcdctl compaction "$(etcdctl get /registry/shop/0-20 --write-out=fields | awk '/"Revision"/ { print $3 }')" >/dev/null
etcdctl put /registry/shop/0-1 "changed once more" >/dev/null
before=$(keys)
kubectl -n shop annotate egs shop etcdguardian.io/trigger=now >/dev/null
increments() { kubectl -n shop get egb -o jsonpath='{.items[?(@.status.kind=="Increment")].metadata.name}'; }
incremented() { [ -n "$(increments)" ]; }
until_ok 60 "an increment" incremented
backup=$(increments)
[ -z "$(field egb "$backup" .status.job)" ] || die "$backup was made by a Job"

say "the data of all three members is destroyed"
rm -rf "$W/volumes"/*/*
kubectl -n shop delete pods --all --force --grace-period=0 >/dev/null 2>&1
empty() { [ "$(etcdctl get --prefix /registry/ --count-only --write-out=fields | awk '/Count/ { print $3 }')" = 0 ]; }
until_ok 120 "an etcd that knows nothing" empty

say "an EtcdRestore brings it back"
sed "s/BACKUP/$backup/" "$here/restore.yaml" | kubectl apply -f - >/dev/null
restored() { case $(field egr comeback .status.phase) in Completed | Failed | Aborted) ;; *) return 1 ;; esac }
until_ok 240 "the end of the restore" restored
[ "$(field egr comeback .status.phase)" = Completed ] || die "the restore: $(field egr comeback .status.message)"
[ "$(keys)" = "$before" ] || die "the keys are not what they were"
hooks=$(kubectl -n shop get egr comeback -o jsonpath='{range .status.steps[*]}{.name}={.state}: {.message}{"\n"}{end}' | grep hooks)
[[ $hooks == *"hooks before=Done: every hook succeeded"* ]] || die "the hooks before: $hooks"
[[ $hooks == *"hooks after=Done: hook 'fail-without-harm' failed afterwards: in pod etcd-"* ]] || die "the hooks after: $hooks"
until_ok 60 "three members" kubectl -n shop rollout status statefulset/etcd --timeout=1s
members=$(etcdctl member list | grep -c started)
[ "$members" = 3 ] || die "$members members have started"
ls -d "$W"/volumes/0/*before-* >/dev/null || die "the old data was not kept"

say "an etcd in a static pod, backed up"
made() { sed "s#FOLDER#$W#g; s#NODE#$node#g" "$here/$1"; }
lone() { "$TOOLS/etcdctl-3.6" --endpoints="http://$node:22379" "$@"; }
made static-pod.yaml >"$W/kubernetes/manifests/etcd.yaml"
until_ok 60 "the static pod" lone endpoint health
lone put kept "as it was" >/dev/null
export CONTAINER_RUNTIME_ENDPOINT=unix://$W/containerd.sock
line=$(page_line docs/how-to/restore-kubeadm.md "crictl ps --name 'etcd")
bash -c "$line" >/dev/null || die "crictl: $line"
line=$(page_line docs/how-to/restore-kubeadm.md 'crictl ps --name etcd ')
looked=$(bash -c "$line")
[[ $looked == *Running*etcd* ]] || die "crictl: $looked"
made static-pod-backup.yaml | kubectl apply -f - >/dev/null
ended() { case $(kubectl -n etcdguardian get "$1" lone -o jsonpath='{.status.phase}') in Completed | Failed) ;; *) return 1 ;; esac }
until_ok 120 "its backup" ended egb
lone put kept "spoiled" >/dev/null

say "an EtcdRestore stops it, replaces its data and starts it, by Jobs on its node"
made static-pod-restore.yaml | kubectl apply -f - >/dev/null
until_ok 240 "the end of its restore" ended egr
said=$(kubectl -n etcdguardian get egr lone -o jsonpath='{.status.phase}: {.status.message}')
[[ $said == Completed:* ]] || die "the restore of the static pod: $said"
[ "$(lone get kept --print-value-only)" = "as it was" ] || die "the static pod's key is not what it was"
ls -d "$W"/lone/etcd.before-* >/dev/null || die "the static pod's old data was not kept"
steps=$(kubectl -n etcdguardian get egr lone -o jsonpath='{range .status.steps[*]}{.name}={.state} {end}')
[ "$steps" = "resolve=Done quiesce=Done restore lone=Done start=Done validate=Done " ] || die "the steps: $steps"

say "the cluster's objects, exported by a Job"
made export.yaml | kubectl apply -f - >/dev/null
exported() { case $(kubectl -n etcdguardian get egb objects -o jsonpath='{.status.phase}') in Completed | Failed) ;; *) return 1 ;; esac }
until_ok 120 "the export" exported
said=$(kubectl -n etcdguardian get egb objects -o jsonpath='{.status.phase} {.status.kind} {.status.validationResult.level}')
[ "$said" = "Completed Export Verified" ] || die "the export: $said: $(kubectl -n etcdguardian get egb objects -o jsonpath='{.status.message}')"

say "a Job whose pod is evicted is followed by another one"
single() { sed "s/NAME/$1/" "$here/single-backup.yaml" | kubectl apply -f - >/dev/null; }
over() { case $(field egb "$1" .status.phase) in Completed | Failed) ;; *) return 1 ;; esac }
reasons() { kubectl -n shop get events --field-selector "involvedObject.name=$1" -o jsonpath='{.items[*].reason}'; }
worker() {
  pod=$(kubectl -n etcdguardian get pods -l "batch.kubernetes.io/job-name=eg-backup-$(field egb "$1" .metadata.uid)-1" \
    --field-selector=status.phase=Running -o jsonpath='{.items[*].metadata.name}')
  [ -n "$pod" ]
}
# held NAME: begins a backup whose pod waits, as the store answers nobody.
held() {
  kill -STOP "$store"
  single "$1"
  until_ok 60 "a pod that works" worker "$1"
}
# followed NAME REASON: the store answers again, another Job makes the backup, and the reason of the first one's end is told.
followed() {
  local said
  kill -CONT "$store"
  until_ok 90 "the backup of another Job" over "$1"
  said=$(field egb "$1" .status.phase)/$(field egb "$1" .status.attempts)
  [ "$said" = Completed/2 ] || die "after $2: $said: $(field egb "$1" .status.message)"
  [[ $(reasons "$1") == *$2* ]] || die "no word of $2: $(reasons "$1")"
}
held evicted
kubectl create --raw "/api/v1/namespaces/etcdguardian/pods/$pod/eviction" -f - >/dev/null <<JSON
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "$pod", "namespace": "etcdguardian"}}
JSON
until_ok 60 "the pod's end" kubectl -n etcdguardian wait --for=delete --timeout=1s "pod/$pod"
followed evicted EvictionByEvictionAPI

say "so is one whose pod the kernel kills for its memory"
# exhaust CONTAINER: has its control group ask for more memory than it may have, and its own process named first to the kernel.
exhaust() {
  local group process
  group=$(find /sys/fs/cgroup -type d -name "$1" -exec test -w '{}/memory.max' -o -w '{}/memory.limit_in_bytes' ';' -print -quit)
  [ -n "$group" ] || die "no control group of $1 counts memory"
  { echo 64M >"$group/memory.max" || echo 64M >"$group/memory.limit_in_bytes"; } 2>/dev/null || die "$group takes no limit"
  process=$(head -n 1 "$group/cgroup.procs")
  echo 1000 >"/proc/$process/oom_score_adj"
  bash -c 'echo $$ >"$1/cgroup.procs" && head -c 256M /dev/zero | tail -n 1' _ "$group" >/dev/null 2>&1 || true
}
held starved
container=$(kubectl -n etcdguardian get pod "$pod" -o jsonpath='{.status.containerStatuses[0].containerID}')
exhaust "${container##*/}"
followed starved OOMKilled

say "the doctor of kubeadm's page, with the certificates that kubeadm makes"
mount -t tmpfs e2e /etc/kubernetes
mkdir -p /etc/kubernetes/pki "$W/named"
(cd "$W/pki" && certificate healthcheck-client /O=kubeadm:cluster-admins/CN=kube-etcd-healthcheck-client extendedKeyUsage=clientAuth)
cp -r "$W/pki" /etc/kubernetes/pki/etcd
background kubeadm-etcd "$TOOLS/etcd-3.6" --data-dir "$W/kubeadm" --listen-client-urls https://127.0.0.1:2379 \
  --advertise-client-urls https://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 \
  --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380 \
  --cert-file "$W/pki/server.crt" --key-file "$W/pki/server.key" --trusted-ca-file "$W/pki/ca.crt" --client-cert-auth
ln -s "$BINARY" "$W/named/etcdguardian"
line=$(page_line docs/how-to/restore-kubeadm.md 'etcdguardian doctor --endpoints https://127.0.0.1:2379 ')
until_ok 30 "the doctor" env "PATH=$W/named:$PATH" bash -c "$line"

say "the page of the operator, as the tutorial reaches it"
line=$(page_line docs/tutorials/on-a-cluster.md 'kubectl -n etcdguardian port-forward ')
background forward bash -c "exec $line"
forward=$!
until_ok 30 "the forwarded page" curl -fsS http://127.0.0.1:9180/status.json
jq -e '.schedules | length > 0' <"$W/asked" >/dev/null || die "the page: $(cat "$W/asked")"
kill "$forward"

say "the image into the node and into a registry, as the pages say"
registry
(
  cd "$W/walk" || exit 1
  export HOME=$W/home CONTAINERD_ADDRESS=$W/containerd.sock CONTAINERD_SNAPSHOTTER=native
  { line=$(page_line docs/how-to/install-the-chart.md 'ctr ') && bash -c "$line" >/dev/null; } || exit 1
  { line=$(page_line docs/how-to/install-the-chart.md 'skopeo ') && bash -c "$line" >/dev/null; } || exit 1
  { line=$(page_line docs/how-to/install-offline.md 'skopeo ') && bash -c "$line" >/dev/null; } || exit 1
  { line=$(page_line docs/tutorials/on-a-cluster.md 'skopeo ') && bash -c "$line" >/dev/null; } || exit 1
) || die "an image could not be given away"

say "an upgrade to the registry's image keeps what there is, and so does taking the chart away"
"${chart[@]}" --set operator.concurrency=2 --set image.repository=registry.example.com/etcdguardian,image.tag=dev,image.pullPolicy=Always >"$W/helm.log" 2>&1 || die "helm upgrade: $(cat "$W/helm.log")"
helm uninstall etcdguardian --namespace etcdguardian --wait --timeout 60s >/dev/null 2>&1
[ "$(field egb "$backup" .status.phase)" = Completed ] || die "the backup's object is gone with the chart"

say "done: 500 keys back in three members"
