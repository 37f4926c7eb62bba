#!/usr/bin/env bash
# demo.sh: the whole story on this machine, on loopback ports and in one scratch folder that is gone afterwards:
# a real etcd under load, backups timed by a model, a store that breaks, the alerts, the recovery, a proved restore.
# ETCDGUARDIAN_SHORT=1 tells it in a minute less, for the tests. With DEMO_PICTURES=FOLDER pictures of page and terminal are left there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
tools=${ETCDGUARDIAN_TOOLS:-$HOME/.cache/etcdguardian/tools}
watching=90 # seconds of ordinary running that are shown
[ -z "${ETCDGUARDIAN_SHORT:-}" ] || watching=20
began=$SECONDS

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi
chapter() { printf '\n%s== %s%s %s(%s s)%s\n' "$bold" "$*" "$plain" "$dim" $((SECONDS - began)) "$plain"; }
say() { printf '   %s\n' "$*"; }
quote() { fold -s -w 114 | sed "s/^/   $dim|$plain /"; }
die() {
  printf '%s!! %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# ---- processes and ports -----------------------------------------------------------------------------------------------------

scratch=$(mktemp -d "${TMPDIR:-/tmp}/etcdguardian-demo.XXXXXX")
declare -A pids=()

cleanup() {
  local code=$?
  trap - EXIT INT TERM
  if [ $code -ne 0 ]; then
    for log in "$scratch"/*.log; do
      [ -s "$log" ] || continue
      printf '%s-- the end of %s%s\n' "$dim" "$(basename "$log")" "$plain" >&2
      tail -n 15 "$log" >&2
    done
  fi
  for name in "${!pids[@]}"; do kill "${pids[$name]}" 2>/dev/null || true; done
  for name in "${!pids[@]}"; do wait "${pids[$name]}" 2>/dev/null || true; done
  rm -rf "$scratch"
  exit "$code"
}
trap cleanup EXIT
trap 'printf "\n   stopping, nothing stays behind\n" >&2; exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: in the background, its words in NAME.log.
start() {
  local name=$1
  shift
  "$@" >>"$scratch/$name.log" 2>&1 </dev/null &
  pids[$name]=$!
}

stop() {
  kill "${pids[$1]}" 2>/dev/null || true
  wait "${pids[$1]}" 2>/dev/null || true
  unset "pids[$1]"
}

free_ports() {
  python3 -c 'import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
  local limit=$(($1 + SECONDS)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $limit ] || die "$what did not happen"
    sleep 0.2
  done
}

# shellcheck source=demo/pictures.sh
source "$here/pictures.sh"
if [ -n "${DEMO_PICTURES:-}" ]; then
  [ -n "$browser" ] || die "DEMO_PICTURES wants a Chromium: tests/tools/get-tools.sh chromium"
  mkdir -p "$DEMO_PICTURES"
  DEMO_PICTURES=$(cd "$DEMO_PICTURES" && pwd)
fi

answers() { curl -fsS --noproxy '*' --max-time 2 "$1"; }

# ---- tools: what is on PATH when it fits, else built once -------------------------------------------------------------------

chapter "Tools and binary"
"$root/tests/tools/get-tools.sh" demo 2> >(quote >&2)
export PATH=$PATH:$tools/bin PYTHONDONTWRITEBYTECODE=1

# A PATH etcd serves when it is 3.5, 3.6 or 3.7 and its etcdctl is there too.
if etcd --version 2>/dev/null | grep -Eq 'etcd Version: 3\.[567]\.' && command -v etcdctl >/dev/null; then
  etcd=etcd etcdctl=etcdctl
else
  etcd=etcd-3.6 etcdctl=etcdctl-3.6
fi
if ! prometheus --version 2>&1 | grep -Eq 'version (2\.(3[7-9]|[4-9][0-9])|3\.)' || ! command -v promtool >/dev/null; then
  say "no Prometheus here yet: it is built once, which takes some minutes"
  "$root/tests/tools/get-tools.sh" prometheus 2> >(quote >&2)
fi
say "etcd: $(command -v $etcd)   Prometheus: $(command -v prometheus)"

if [ -z "${ETCDGUARDIAN:-}" ]; then
  (cd "$root" && cargo build --locked --quiet)
  ETCDGUARDIAN=${CARGO_TARGET_DIR:-$root/target}/debug/etcdguardian
fi
say "$("$ETCDGUARDIAN" version | head -n 1)"

# ---- servers ----------------------------------------------------------------------------------------------------------------

chapter "A real etcd, a real Prometheus, an S3 store, a mailbox and a stand-in for Slack"
began=$SECONDS
read -r client peer metrics prometheus s3 smtp mail slack page client2 peer2 <<<"$(free_ports 11)"
mkdir -p "$scratch"/{s3/demo,iam,versions,manifests,secrets/s3,state}

start_etcd() { # NAME DATA-DIR CLIENT PEER [FLAGS]
  local name=$1 dir=$2 client_url=http://127.0.0.1:$3 peer_url=http://127.0.0.1:$4
  shift 4
  start "$name" $etcd --data-dir "$dir" --listen-client-urls "$client_url" --advertise-client-urls "$client_url" \
    --listen-peer-urls "$peer_url" --log-level warn "$@"
  await 30 "$name is healthy" answers "$client_url/health"
}
start_store() {
  start store versitygw --port "127.0.0.1:$s3" --access demo --secret demo-secret --health /healthz --iam-dir "$scratch/iam" --quiet \
    posix --versioning-dir "$scratch/versions" "$scratch/s3"
  await 20 "the store answers" answers "http://127.0.0.1:$s3/healthz"
}

start_etcd etcd "$scratch/etcd" "$client" "$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
  --initial-cluster "default=http://127.0.0.1:$peer" --listen-metrics-urls "http://127.0.0.1:$metrics"

say "The clock is compressed: this cron fires each minute, so fourteen of the model's days are one of ours."
say "Prometheus gets that much history. It is made up, for the demo: a model needs something to learn from,"
say "and its rhythm was picked so that the forecast has something to win. What real clusters save: docs/explanation/scheduling.md."
python3 "$here/history.py" "127.0.0.1:$metrics" >"$scratch/history.om"
promtool tsdb create-blocks-from --max-block-duration=48h openmetrics "$scratch/history.om" "$scratch/prometheus" >"$scratch/backfill.log"
rm "$scratch/history.om"
cat >"$scratch/prometheus.yml" <<YAML
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: etcd
    static_configs: [{targets: ["127.0.0.1:$metrics"]}]
YAML
start prometheus prometheus --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/prometheus" \
  --storage.tsdb.retention.time=90d --web.listen-address="127.0.0.1:$prometheus" --log.level=warn
start_store
start mailpit mailpit --listen "127.0.0.1:$mail" --smtp "127.0.0.1:$smtp" --smtp-disable-rdns --disable-version-check
start slack python3 "$root/tests/tools/emu/slackfake.py" "$slack"
await 30 "Prometheus is ready" answers "http://127.0.0.1:$prometheus/-/ready"
await 20 "the mailbox answers" answers "http://127.0.0.1:$mail/api/v1/messages"
await 20 "the Slack stand-in answers" answers "http://127.0.0.1:$slack/_ready"
start load python3 "$here/load.py" "http://127.0.0.1:$client"
say "etcd takes writes: a minute of many, two of few, over and over"

# ---- etcdguardian ------------------------------------------------------------------------------------------------------------

printf demo >"$scratch/secrets/s3/access-key-id"
printf demo-secret >"$scratch/secrets/s3/secret-access-key"
printf 'http://127.0.0.1:%s/services/T0/B0/secret' "$slack" >"$scratch/secrets/slack-webhook"
chmod -R go= "$scratch/secrets"

cat >"$scratch/guardian.yaml" <<YAML
apiVersion: etcdguardian.io/v1alpha1
kind: EtcdGuardianConfig
cluster: {name: demo, endpoints: ["http://127.0.0.1:$client"]}
prometheus: {url: "http://127.0.0.1:$prometheus"}
store: {provider: S3, bucket: demo, region: us-east-1, endpoint: "http://127.0.0.1:$s3", addressing: Path, credentialsSecret: s3}
alerts:
  channels:
    - {name: slack, slack: {webhookURLFile: $scratch/secrets/slack-webhook}}
    - name: mail
      email:
        smtp: {host: 127.0.0.1, port: $smtp, tls: None}
        from: etcdguardian@example.com
        to: [oncall@example.com]
serve: {listen: "127.0.0.1:$page"}
stateDir: $scratch/state
manifests: $scratch/manifests
secretsDir: $scratch/secrets
YAML
cat >"$scratch/manifests/main.yaml" <<YAML
apiVersion: etcdguardian.io/v1alpha1
kind: EtcdBackupSchedule
metadata: {name: main}
spec:
  schedule: "* * * * *"
  immediate: true
  aiOptimization: {enabled: true, minInterval: 10s, maxInterval: 3m, model: $scratch/model.json}
  backupTemplate:
    spec:
      backupMode: Full
      storageLocation: {provider: S3, bucket: demo, region: us-east-1, endpoint: "http://127.0.0.1:$s3", addressing: Path, credentialsSecret: s3}
      retentionPolicy: {maxBackups: 3}
YAML
guardian() { ETCDGUARDIAN_LOG=error "$ETCDGUARDIAN" --config "$scratch/guardian.yaml" "$@"; }
backups() { guardian backup list -o json 2>>"$scratch/commands.log" | jq -r '.items[].id' | sort; }

chapter "A model, fitted on the older hours of the history; the loop judges it on the newer ones"
"$ETCDGUARDIAN" --log error model export --prometheus "http://127.0.0.1:$prometheus" --since 22h --step 2s --out "$scratch/history.csv" 2>>"$scratch/commands.log"
head -n 20001 "$scratch/history.csv" >"$scratch/older.csv"
"$ETCDGUARDIAN" model fit --traces "$scratch/older.csv" --out "$scratch/model.json" --cron '* * * * *' --min 10s --max 3m 2>>"$scratch/commands.log" |
  cut -c1-110 | quote

chapter "etcdguardian run: a cron would back up each minute; the model may choose 10 s to 3 min"
say "the schedule:"
quote <"$scratch/manifests/main.yaml"
start guardian "$ETCDGUARDIAN" --config "$scratch/guardian.yaml" run
await 60 "etcdguardian is up" answers "http://127.0.0.1:$page/livez"

# Prints every new decision, and every new backup, for so many seconds.
decision='' shown=''
watch() {
  local until=$((SECONDS + $1)) new id
  while [ $SECONDS -lt $until ]; do
    kill -0 "${pids[guardian]}" 2>/dev/null || die "etcdguardian ended"
    new=$(guardian schedule explain main -o json 2>>"$scratch/commands.log" |
      jq -r '[.why + (if .action == "Wait" then "; planned about every \(.intervalSeconds) s" else "" end), .source + .reason] | @tsv' || true)
    # A line when the rule or its reason changes; the numbers move at every sample.
    if [ -n "$new" ] && [ "${new#*$'\t'}" != "$decision" ]; then
      decision=${new#*$'\t'}
      printf '   %s decided by %s\n' "$(date +%T)" "${new%%$'\t'*}"
    fi
    for id in $(backups || true); do
      case " $shown " in *" $id "*) continue ;; esac
      shown="$shown $id"
      printf '   %s %sproved%s   backup %s\n' "$(date +%T)" "$green" "$plain" "$id"
    done
    sleep 1
  done
}
have_backups() { [ "$(backups | wc -l)" -ge "$1" ]; }

await 60 "the first backup" have_backups 1
watch "$watching"
await 200 "the second backup" have_backups 2
say "A rule comes into force when it would have needed the fewest backups on the last fourteen days, at no more exposure than the cron."
say "in full, etcdguardian schedule explain main:"
guardian schedule explain main | quote
picture_page
picture_terminal terminal-status status
picture_terminal terminal-explain schedule explain main
picture_terminal terminal-list backup list

chapter "The store goes away, on purpose"
stop store
say "and a backup is asked for, so that nobody has to wait: etcdguardian schedule trigger main"
guardian schedule trigger main >>"$scratch/commands.log" 2>&1 || true
# mailed SUBJECT: the id of the newest mail whose subject has these words.
mailed() { answers "http://127.0.0.1:$mail/api/v1/messages" | jq -er --arg words "$1" '[.messages[] | select(.Subject | contains($words))][0].ID'; }
slacked() { answers "http://127.0.0.1:$slack/_messages" | jq -e --arg words "$1" '[.[] | select(tostring | contains($words))][-1]'; }
await 120 "an email about it" mailed "[WARNING] Backup failed"
await 30 "a Slack message about it" slacked "Backup failed"
show_mail() {
  local id
  id=$(mailed "$1")
  answers "http://127.0.0.1:$mail/api/v1/message/$id" | jq -r '"From: \(.From.Address)", "To: \(.To[0].Address)", "Subject: \(.Subject)", "", .Text' | quote
}
say "the mail:"
show_mail "[WARNING] Backup failed"
say "on Slack:"
slacked "Backup failed" | jq -r '.. | objects | select(.type == "mrkdwn" or .type == "plain_text") | .text' | quote
say "and etcdguardian status, which exits $(guardian status >"$scratch/status.txt" 2>&1 && echo 0 || echo $?):"
quote <"$scratch/status.txt"
picture_terminal terminal-failure status
picture_alert

chapter "The store comes back"
start_store
await 120 "news of the recovery by mail" mailed "[OK] Recovered"
show_mail "[OK] Recovered"
watch 5

chapter "Restore the newest backup into a new etcd, and prove it"
stop load
guardian schedule trigger main 2>&1 | quote
watch 8
newest=$(guardian backup list -o json | jq -r '.items | sort_by(.revision) | last')
id=$(jq -r .id <<<"$newest") revision=$(jq -r .revision <<<"$newest")
say "the newest is $id, revision $revision"
guardian restore --backup "$id" --data-dir "$scratch/restored" --exact --yes 2>&1 | quote
start_etcd restored "$scratch/restored" "$client2" "$peer2"
hash_of() { $etcdctl --endpoints "http://127.0.0.1:$1" endpoint hashkv --rev "$revision" -w json | jq -c '.[0].HashKV | [.hash, .compact_revision]'; }
original=$(hash_of "$client") copy=$(hash_of "$client2")
say "HashKV at revision $revision, with the compact revision: original $original, restored $copy"
[ "$original" = "$copy" ] || die "they differ"
say "${green}equal: every key, value and revision is back$plain"

chapter "What happened"
guardian backup list | quote
dropped=$(answers "http://127.0.0.1:$page/metrics" | awk '/^etcdguardian_retention_deletions_total/ { sum += $2 } END { print sum + 0 }')
say "$(printf '%s' "$shown" | wc -w) backups were made and proved in $((SECONDS - began)) s; retention keeps the newest three and let $dropped go."
say "Mails: $(answers "http://127.0.0.1:$mail/api/v1/messages" | jq '.messages | length'), Slack messages: $(answers "http://127.0.0.1:$slack/_messages" | jq length)."
say "Next: docs/tutorials/first-backup.md for your own etcd, docs/reference/config.md for every field, docs/explanation/scheduling.md for how it decides."
