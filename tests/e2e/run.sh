#!/usr/bin/env bash
# run.sh [BINARY]: end to end on a real one-node Kubernetes cluster, made and removed here; story.sh is what happens in it.
#
# Everything lives in namespaces of its own (network, mounts, processes), so that nothing is reached from outside and all of it
# is gone when this ends, however it ends. Needs root, Linux, and what `tests/tools/get-tools.sh e2e` gets.
#
#   run.sh --possible   says by its exit code whether this machine lets a node be made
set -euo pipefail
if [ "${1:-}" = --possible ]; then
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo -n)
  # shellcheck disable=SC2016 # for the inner shell
  "${root[@]}" unshare --net --mount --propagation private --pid --fork --mount-proc bash -c '
    PATH=$PATH:/usr/sbin:/sbin
    mount --make-rshared / && ip link add probe type bridge && sysctl -qw net.ipv4.ip_forward=1 &&
      for group in /sys/fs/cgroup /sys/fs/cgroup/memory; do
        [ ! -d $group ] || { mkdir $group/etcdguardian-probe && rmdir $group/etcdguardian-probe; } || exit 1
      done' >/dev/null 2>&1
  exit
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export TOOLS=${ETCDGUARDIAN_TOOLS:-$HOME/.cache/etcdguardian/tools}/bin
export BINARY=${1:-$repository/target/debug/etcdguardian}
BINARY=$(readlink -f "$BINARY")
export REPOSITORY=$repository PATH=$TOOLS:/usr/sbin:/sbin:$PATH

if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || {
    echo "e2e: a node needs root: run it as root, or allow sudo without a password" >&2
    exit 1
  }
  exec sudo -n env "ETCDGUARDIAN_TOOLS=$(dirname "$TOOLS")" "PATH=$PATH" "$0" "$BINARY"
fi
[ -x "$BINARY" ] || {
  echo "e2e: $BINARY is not there: cargo test --no-run builds it" >&2
  exit 1
}

# One at a time: nodes share the machine's control groups.
exec 8>/tmp/etcdguardian-e2e.lock
flock 8
W=$(mktemp -d /tmp/etcdguardian-e2e.XXXXXX)
export W
clean() {
  local id
  # The control groups of this node's containers, which outlive it.
  for id in "$W"/containerd/root/io.containerd.grpc.v1.cri/{sandboxes,containers}/*; do
    find /sys/fs/cgroup -depth -type d -name "${id##*/}" -exec rmdir {} + 2>/dev/null || true
  done
  find /sys/fs/cgroup -maxdepth 2 -type d -name k8s.io -exec rmdir {} + 2>/dev/null || true
  [ -z "${made:-}" ] || rmdir /etc/kubernetes || true
  rm -rf "$W" 2>/dev/null || true
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Where the story mounts a folder of its own.
made=
[ -d /etc/kubernetes ] || { mkdir /etc/kubernetes && made=yes; }

# The first process in there takes every other one with it when it ends, and ends itself with this one.
timeout --kill-after=5 "${E2E_LIMIT:-900}" \
  unshare --net --mount --propagation private --pid --fork --kill-child=KILL --mount-proc \
  bash "$here/story.sh" 8>&- || {
  code=$?
  echo "e2e: FAILED ($code)" >&2
  exit "$code"
}
