#!/usr/bin/env bash
# What cargo calls in place of the compiler: the crate itself gets the fuzzer's counters, what it depends on is built as ever.
set -euo pipefail
case " $* " in
*" --crate-name etcdguardian "*)
  set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
  ;;
esac
exec "$@"
