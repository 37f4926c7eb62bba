#!/usr/bin/env bash
# Writes crds/ from the Rust types. The chart renders the same files, and those of monitoring/, from its own copies in charts/etcdguardian/files/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=${ETCDGUARDIAN:-target/debug/etcdguardian}
for kind in etcdbackups etcdbackupschedules etcdrestores; do
  "$binary" crd "$kind" >"crds/etcdguardian.io_$kind.yaml"
done
mkdir -p charts/etcdguardian/files/crds
cp crds/*.yaml charts/etcdguardian/files/crds/
cp monitoring/{alerts,recording}.yaml monitoring/dashboard.json charts/etcdguardian/files/
