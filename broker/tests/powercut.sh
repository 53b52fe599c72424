#!/bin/bash
# Power cuts at random moments under load, by recording every block write and flush and replaying a part of them.
# Nothing acknowledged before the cut may be missing when the broker starts on what the disk then held.
#
#   powercut.sh [--broker-command 'CMD with {data} and {port}'] [--cuts 50] [--seconds 20] [--restarts 2]
#               [--fs ext4|xfs] [--size-mb 1024] [--port P] [--seed N] [--work DIR]
#
# 1. An image is filled by an earlier life of the broker, so that free blocks hold old valid batches, and formatted
#    again without discarding them.
# 2. The broker runs on it under the two workloads of history.py while the recorder writes down every write and
#    flush; it is killed and started again --restarts times, so that cuts hit recoveries as well.
# 3. For each cut an image is built: all that was flushed by then, of later writes none, some or all, in half of
#    the cuts torn at 512-byte sectors. The broker starts on it, and history.py checks what it gives back.
# Without --broker-command: our own, built here, with two shards. Slow by design: it measures nothing. Ends with 77
# where it cannot be done.
# Needs root and (Debian): qemu-utils e2fsprogs xfsprogs util-linux python3-venv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/tools
# Small rings and segments, so that cuts hit checkpoints and rolls.
broker_command="${CARGO_TARGET_DIR:-target}/release/millstream start --data-dir {data} --port {port} --shards 2 \
  --set journal.bytes=8388608 --set journal.direct.min.bytes=8192 --set log.segment.bytes=1048576 --set message.max.bytes=1000000 \
  --set admin.listen=" build=1
cuts=50 seconds=20 restarts=2 fs=ext4 size_mb=1024 port=29192 seed=1
work=${MILLSTREAM_TEST_CACHE:-$here/.cache}/powercut
while [ $# -gt 0 ]; do
  case $1 in
    --broker-command) broker_command=$2 build=; shift 2 ;;
    --cuts) cuts=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --restarts) restarts=$2; shift 2 ;;
    --fs) fs=$2; shift 2 ;;
    --size-mb) size_mb=$2; shift 2 ;;
    --port) port=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    *) sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
fail() { echo "powercut.sh: $*" >&2; exit 1; }
cannot() { echo "powercut.sh: cannot be done here: $*" >&2; exit 77; }
[ "$(id -u)" = 0 ] || cannot "needs root, for loop devices and mounts"
command -v qemu-storage-daemon >/dev/null || cannot "apt-get install qemu-utils"
[ -z "$build" ] || "$tools/millstream.sh" build
python=$("$here/clients/venv.sh")
rm -rf "$work"; mkdir -p "$work/mount"; work=$(cd "$work" && pwd)
cd "$here/../.."
export TMPDIR=$work   # recdisk.sh keeps its image and log in $TMPDIR/recdisk
mount=$work/mount broker='' loop='' recording='' workloads=()

cleanup() {
  [ ${#workloads[@]} = 0 ] || kill "${workloads[@]}" 2>/dev/null || true
  [ -z "$broker" ] || kill -9 "$broker" 2>/dev/null || true
  sleep 0.3
  if [ -n "$recording" ]; then "$tools/recdisk.sh" down disk "$mount" 2>/dev/null || true; fi
  if [ -n "$loop" ]; then umount "$mount" 2>/dev/null || true; losetup -d "$loop" 2>/dev/null || true; fi
}
trap cleanup EXIT

mount_image() { loop=$(losetup --find --show --sector-size 4096 "$1") && mount "$loop" "$mount"; }
unmount_image() { umount "$mount"; losetup -d "$loop"; loop=''; }

start_broker() { # LOG
  local command=${broker_command//'{data}'/$mount/data}
  command=${command//'{port}'/$port}
  setsid $command >>"$1" 2>&1 </dev/null &
  broker=$!
  "$tools/rawkafka.py" --brokers "127.0.0.1:$port" ready --timeout 60 || { tail -5 "$1" >&2; return 1; }
  kill -0 "$broker" 2>/dev/null || { tail -5 "$1" >&2; return 1; }
}

end_broker() { # SIGNAL
  kill "-$1" "$broker" 2>/dev/null || true
  wait "$broker" 2>/dev/null || true
  broker=''
}

start_workloads() { # PREFIX SECONDS OPTIONS...
  local prefix=$1 time=$2 mode; shift 2
  workloads=()
  for mode in plain idempotent; do
    "$python" "$tools/history.py" produce --brokers "127.0.0.1:$port" --topic $mode --history "$work/$prefix.$mode" \
      --seconds "$time" --seed "$seed" --topic-config segment.bytes=1048576 \
      $([ $mode = plain ] || echo --idempotent) "$@" >"$work/$prefix.$mode.out" 2>&1 &
    workloads+=($!)
  done
}

end_workloads() {
  local pid status=0
  for pid in "${workloads[@]}"; do wait "$pid" || status=1; done
  workloads=()
  cat "$work/$1".*.out
  return $status
}

[ -e /dev/fuse ] || cannot "no /dev/fuse, through which the recorder shows its disk"
truncate -s 16M "$work/probe.img"
loop=$(losetup --find --show --sector-size 4096 "$work/probe.img" 2>"$work/probe.log") ||
  cannot "no loop devices with sectors of 4096 bytes: $(tail -1 "$work/probe.log")"
losetup -d "$loop"; loop=''

echo "1. old data in the free blocks"
truncate -s "${size_mb}M" "$work/old.img"
loop=$(losetup --find --show --sector-size 4096 "$work/old.img")
"mkfs.$fs" -q "$loop" >/dev/null
losetup -d "$loop"; loop=''
mount_image "$work/old.img"
start_broker "$work/old.log" || fail "the broker does not start"
start_workloads old 5 --rate 2000
end_workloads old || fail "the first workload failed"
end_broker TERM
sync; unmount_image

echo "2. recording $seconds s of load on $fs, with $restarts kills"
RECDISK_BASE=$work/old.img "$tools/recdisk.sh" up disk "$size_mb" "$mount" "$fs" >/dev/null
recording=1 recorder=$work/recdisk/disk.log
entries() { "$tools/crashreplay.py" nr "$recorder"; }
first=$(entries)
start_broker "$work/broker.log" || fail "the broker does not start on the recorded disk"
start_workloads run "$seconds" --rate 300 --recorder-log "$recorder"
for _ in $(seq "$restarts"); do
  sleep $((seconds / (restarts + 1)))
  end_broker KILL
  start_broker "$work/broker.log" || fail "the broker does not start after kill -9"
done
end_workloads run || fail "the workload failed"
end_broker TERM
last=$(entries)
"$tools/recdisk.sh" down disk "$mount"; recording=''
"$tools/crashreplay.py" info "$recorder"

echo "3. $cuts cuts between entries $first and $last"
bad=0
while read -r number cut keep tear; do
  "$tools/crashreplay.py" build "$recorder" "$work/cut.img" $((size_mb << 20)) --entries "$cut" --seed "$number" \
    --keep "$keep" $tear --base "$work/old.img" >"$work/cut.log"
  result=ok
  if ! mount_image "$work/cut.img" 2>>"$work/cut.log"; then
    losetup -d "$loop"; loop=''
    result="does not mount"
  else
    if start_broker "$work/cut.log" 2>>"$work/cut.log"; then
      for mode in plain idempotent; do
        "$python" "$tools/history.py" check --brokers "127.0.0.1:$port" --topic $mode --history "$work/run.$mode" \
          --cut "$cut" $([ $mode = plain ] || echo --idempotent) >>"$work/cut.log" 2>&1 || result="$mode: promises broken"
      done
    else
      result="the broker does not start"
    fi
    [ -z "$broker" ] || end_broker KILL
    unmount_image
  fi
  if [ "$result" = ok ]; then
    echo "cut $number at $cut, keep $keep $tear: $(grep -o '^[a-z]*: [0-9]* acknowledged, [0-9]* read' "$work/cut.log" | tr '\n' ' ')ok"
  else
    bad=$((bad + 1))
    echo "cut $number at $cut, keep $keep $tear: $result"
    tail -8 "$work/cut.log" | cut -c1-300 | sed 's/^/    /'
    cp "$work/cut.log" "$work/cut-$number.log"
  fi
done < <(python3 - "$seed" "$cuts" "$first" "$last" <<'P'
import random, sys
seed, cuts, first, last = map(int, sys.argv[1:])
rng = random.Random(seed)
for number in range(cuts):
    print(number, rng.randint(first, last), rng.choice([0, 0.5, 1]), "--tear" if number % 2 else "")
P
)
echo "$bad of $cuts cuts broke a promise"
exit $((bad > 0))
