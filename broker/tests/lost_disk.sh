#!/bin/bash
# A broker with two log directories, one on a disk of its own that goes away:      lost_disk.sh [PORT]
# The file system of the second stands still under load for a while, is shut down (every call fails from then on), is read-only,
# and is not mounted. What is
# on the first is served and written to all the while; nothing is begun where the disk was; and when it is back, everything
# that was acknowledged on it is there. A start on a read-only directory alone is refused.
# Ends with 77 where it cannot be done. Needs root, for a loop device, and (Debian): e2fsprogs util-linux. Millstream is built
# as a release, unless MILLSTREAM_NO_BUILD is set.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-29892}
millstream=$here/tools/millstream.sh
dir=${MILLSTREAM_TEST_CACHE:-$here/.cache}/lost_disk
fail() { echo "lost_disk.sh: $*" >&2; exit 1; }
cannot() { echo "lost_disk.sh: cannot be done here: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || cannot "needs root"
for tool in losetup fsfreeze mkfs.ext4 python3; do command -v "$tool" >/dev/null || cannot "needs $tool"; done
load() { python3 "$here/tools/lost_disk.py" --brokers "127.0.0.1:$port" --state "$dir/state" "$@"; }
start() { "$millstream" start "$port" "$dir" 2 journal.bytes=8388608 log.segment.bytes=1048576 message.max.bytes=1000000; }
says() { grep -qF "$1" "$dir/err" || fail "no '$1' in: $(cat "$dir/err")"; rm "$dir/err"; }
program=${CARGO_TARGET_DIR:-$here/../../target}/release/millstream

[ -n "${MILLSTREAM_NO_BUILD:-}" ] || "$millstream" build
cleanup() {
  kill -9 "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null || true
  sleep 0.3
  fsfreeze --unfreeze "$dir/disk" 2>/dev/null || true
  umount "$dir/disk" 2>/dev/null || true
  [ -z "${loop:-}" ] || losetup -d "$loop" 2>/dev/null || true
}
trap cleanup EXIT
rm -rf "$dir"
mkdir -p "$dir/disk"
dir=$(cd "$dir" && pwd)
truncate -s 512M "$dir/image"
mkfs.ext4 -q -b 4096 "$dir/image"
loop=$(losetup --find --show "$dir/image") || cannot "no loop device"
mount "$loop" "$dir/disk" || cannot "cannot mount"
export MILLSTREAM_DATA_DIRS=$dir/data,$dir/disk/log

start
load fill
load freeze "$dir/disk"
load lose "$dir/disk"
"$millstream" stop "$dir" || fail "it does not stop without the disk"
says "log directory $dir/disk/log is offline until the next start"
umount "$dir/disk"
echo "the disk was lost under load"

start
load half
"$millstream" stop "$dir"
says "it is empty, and the log directories"
[ -z "$(ls -A "$dir/disk")" ] || fail "something was begun where the disk is mounted"
echo "the disk was not mounted"

mount "$loop" "$dir/disk"
mount -o remount,ro "$dir/disk"
start
load half
"$millstream" stop "$dir"
says "Read-only file system"
if "$program" start --port "$port" --data-dir "$dir/disk/log" 2>"$dir/err"; then fail "it starts on a read-only directory"; fi
says "Read-only file system"
echo "the disk was read-only"

mount -o remount,rw "$dir/disk"
start
load whole
"$millstream" stop "$dir"
for directory in data disk/log; do
  "$program" log check --data-dir "$dir/$directory" >"$dir/check" || fail "log check: $(cat "$dir/check")"
done
echo "the disk was back, and all that was acknowledged is there"
