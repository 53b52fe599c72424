#!/bin/bash
# A data directory that Apache Kafka wrote, taken over:      takeover.sh [PORT]
# Kafka gets topics of all kinds and a group's offsets, and is stopped; Millstream starts on a copy, with two shards: every batch is there
# byte for byte, under its offset, and what comes next goes on from there. It is refused while Kafka runs, or was killed, and once
# Kafka was there again. What is refused, Kafka starts on as if nothing had been.
# Needs what tools/kafka.sh needs. Millstream is built as a release, unless MILLSTREAM_NO_BUILD is set.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-29792}
millstream=$here/tools/millstream.sh
kafka=$here/tools/kafka.sh
dir=${MILLSTREAM_TEST_CACHE:-$here/.cache}/takeover
fail() { echo "takeover.sh: $*" >&2; exit 1; }
look() { python3 "$here/tools/takeover.py" --brokers "127.0.0.1:$port" --state "$dir/state" "$@"; }
refuses() { # TEXT: what a start on $dir/ours says
  ! "$millstream" start "$port" "$dir/ours" 2 2>"$dir/refusal" || fail "it starts, and should say: $1"
  grep -qF "$1" "$dir/ours/err" || fail "no '$1' in: $(cat "$dir/ours/err")"
  rm -f "$dir/ours/err"
}
copy() {
  rm -rf "$dir/ours"
  mkdir -p "$dir/ours"
  cp -a "$dir/kafka/logs" "$dir/ours/data"
}
sums() { # DIRECTORY: of segments that nobody compacts
  (cd "$1" && find plain-* rolled-* idempotent-* -name '*.log' -size +0 -print0 | sort -z | xargs -0 sha256sum)
}

[ -n "${MILLSTREAM_NO_BUILD:-}" ] || "$millstream" build
rm -rf "$dir"
mkdir -p "$dir"
trap 'kill -9 $(cat "$dir"/ours/pid "$dir"/kafka/kafka.pid 2>/dev/null) 2>/dev/null || true' EXIT
"$kafka" start "$port" "$dir/kafka" log.cleaner.backoff.ms=100 log.roll.ms=3600000 transaction.state.log.num.partitions=1 \
  offsets.topic.num.partitions=5 >/dev/null
look fill
copy
refuses "Start Kafka on it once more"
"$kafka" stop "$dir/kafka"
# Refused in place, when everything was read and indexes were written: Kafka starts again.
mkdir -p "$dir/ours"
rm -rf "$dir/ours/data"
ln -s ../kafka/logs "$dir/ours/data"
mv "$dir/kafka/logs/plain-1" "$dir/aside"
refuses "partition 1 of topic plain is not in this directory"
mv "$dir/aside" "$dir/kafka/logs/plain-1"
rm "$dir/ours/data"
"$kafka" start "$port" "$dir/kafka" >/dev/null
look compare
"$kafka" stop "$dir/kafka"
copy
sums "$dir/kafka/logs" >"$dir/sums"
"$millstream" start "$port" "$dir/ours" 2
grep -qF "that Kafka wrote" "$dir/ours/err" || fail "it does not say what it took over: $(cat "$dir/ours/err")"
look compare
look go-on
"$millstream" restart "$dir/ours" KILL
look went-on
"$millstream" stop "$dir/ours"
"${CARGO_TARGET_DIR:-$here/../../target}/release/millstream" log check --data-dir "$dir/ours/data" >"$dir/check" 2>&1 || fail "$(cat "$dir/check")"
sums "$dir/ours/data" >"$dir/sums.ours"
! grep -vxFf "$dir/sums.ours" "$dir/sums" || fail "these segments of Kafka's are others now"
cp "$dir/kafka/logs/.kafka_cleanshutdown" "$dir/ours/data/"
refuses "Kafka has run in this directory since it was taken over"
rm -rf "$dir"
echo "a directory that Kafka wrote was taken over"
