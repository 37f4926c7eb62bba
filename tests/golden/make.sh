#!/usr/bin/env bash
# Makes the golden snapshots: one of each release of etcd, with what that etcd and etcdutl say of it, in golden.json.
# Run with the tools of tests/tools in PATH: tests/golden/make.sh. The files change with every run, for etcd's ids are its own.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# HashKV of the server at a revision, as [revision, compactRevision, hash].
hash_of() {
  ctl endpoint hashkv --rev="$1" -w json |
    python3 -c 'import json, sys; h = json.load(sys.stdin)[0]["HashKV"]; print([int(sys.argv[1]) or h["header"]["revision"], h.get("compact_revision", -1), h["hash"]])' "$1"
}

entries=()
for version in 3.4 3.5 3.6 3.7; do
  client=$(free_port) peer=$(free_port)
  "etcd-$version" --data-dir "$work/$version" --name m --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "m=http://127.0.0.1:$peer" \
    >"$work/$version.log" 2>&1 &
  server=$!
  credentials=()
  ctl() { "etcdctl-$version" --endpoints "http://127.0.0.1:$client" "${credentials[@]}" "$@"; }
  until ctl endpoint health >/dev/null 2>&1; do sleep 0.2; done
  lease=$(ctl lease grant 3600 | awk '{print $2}')
  for i in 1 2 3 4 5 6 7 8; do ctl put "k/$i" "value-$i" >/dev/null; done
  ctl put k/leased x --lease="$lease" >/dev/null
  ctl put k/large "$(head -c 9000 /dev/zero | tr '\0' a)" >/dev/null
  ctl put k/1 again >/dev/null
  ctl del k/2 >/dev/null
  ctl txn >/dev/null <<'TXN'

put k/t1 a
put k/t2 b
del k/3


TXN
  ctl compaction 8 --physical >/dev/null
  ctl compaction 12 --physical >/dev/null
  ctl del k/4 >/dev/null
  ctl put k/4 back >/dev/null
  ctl put k/late x >/dev/null
  ctl user add root:secret >/dev/null
  ctl user grant-role root root >/dev/null 2>&1 || { ctl role add root >/dev/null; ctl user grant-role root root >/dev/null; }
  ctl auth enable >/dev/null
  credentials=(--user root:secret)
  ctl snapshot save "$work/$version.db" >/dev/null 2>&1
  hashes="$(hash_of 0), $(hash_of 13), $(hash_of 14), $(hash_of 15)"
  kill "$server"; wait "$server" || true
  zstd -19 -q -f "$work/$version.db" -o "$here/etcd-$version.db.zst"
  status=()
  for utility in 3.5 3.6 3.7; do
    status+=("\"$utility\": $("etcdutl-$utility" snapshot status -w json "$work/$version.db")")
  done
  entries+=("$(printf '"%s": {"hashKv": [%s], "status": {%s}}' "$version" "$hashes" "$(IFS=,; echo "${status[*]}")")")
done
printf '{%s}' "$(IFS=,; echo "${entries[*]}")" | python3 -m json.tool >"$here/golden.json"
ls -l "$here"
