#!/usr/bin/env bash
# fuzz/run.sh [TARGET [SECONDS]]: libFuzzer over one parser, or over each for a minute, from the seeds. Any compiler will do: the
# coverage that libFuzzer steers by comes from LLVM's own pass. What it finds lies in fuzz/artifacts/TARGET, to be made a test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
targets=(snapshot bolt rows log raft_snapshot manifest segment)
if [ $# -gt 0 ]; then targets=("$1"); fi
seconds=${2:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
for target in "${targets[@]}"; do
  # With --target the flags are for the crate and what it links, and not for build scripts.
  RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1 --cfg fuzzing" \
    cargo build --release --target "$host" --bin "$target"
  mkdir -p "corpus/$target" "artifacts/$target"
  if [ "$target" = snapshot ] || [ "$target" = bolt ]; then
    for file in ../tests/golden/*.zst; do zstd -dqf "$file" -o "corpus/$target/$(basename "$file" .zst)"; done
  fi
  "target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=262144 \
    -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"
done
