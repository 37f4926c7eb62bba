#!/usr/bin/env bash
# fuzz/run.sh [SECONDS [TARGET]]: libFuzzer over each parser for so long, four seconds unless told, or over one of them; from the
# seeds and what earlier runs found. Any compiler will do: the coverage that libFuzzer steers by comes from LLVM's own pass.
# What breaks a parser lies in fuzz/artifacts/TARGET, to be made a test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-4}
targets=(snapshot bolt rows log raft_snapshot manifest segment)
if [ $# -gt 1 ]; then targets=("$2"); fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target} CARGO_INCREMENTAL=0
# The versions that the crate is tested with; beside them only libFuzzer's own is chosen, by Cargo.toml.
cp ../Cargo.lock Cargo.lock
RUSTC_WRAPPER=$PWD/rustc.sh cargo build --quiet
for target in "${targets[@]}"; do
  printf '%s:\n' "$target"
  mkdir -p "corpus/$target" "artifacts/$target"
  if [ "$target" = snapshot ] || [ "$target" = bolt ]; then
    for file in ../tests/golden/*.zst; do
      case $file in *.db.zst) zstd -dqf "$file" -o "corpus/$target/$(basename "$file" .zst)" ;; esac
    done
  fi
  FUZZ_TARGET=$target "$CARGO_TARGET_DIR/debug/parsers" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -max_len=262144 -verbosity=0 -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"
done
