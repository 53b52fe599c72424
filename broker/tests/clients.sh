#!/bin/bash
# Our broker and every stock client, from an empty directory to the last segment.
#
#   clients.sh [--lines N] [--port P] [--no-build] [options of clients/run.sh]
#
# 1. Two shards. Real text through every client and codec; a producer and a consumer of each outlive a restart and a
#    kill -9 (clients/run.sh). Kafka's perf tool writes enough for segments to roll.
# 2. No data request has come to a shard that does not own the partition, by the counters that the broker ends with.
# 3. Such producers and consumers outlive a restart with four shards, then one with one (their first request may go to
#    the node that led the partition before); every topic of step 1 is whole after each.
# 4. Kafka's own dump tool reads every segment that is left (dump.sh).
# --lines is 1000000 by default; 20000 is the short form. Needs what clients/run.sh needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
lines=1000000 port=29592 build=1 options=()
while [ $# -gt 0 ]; do
  case $1 in
    --lines) lines=$2; shift 2 ;;
    --port) port=$2; shift 2 ;;
    --no-build) build=; shift ;;
    --clients | --codecs | --tools-codecs) options+=("$1" "$2"); shift 2 ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
brokers=127.0.0.1:$port
millstream=broker/tests/tools/millstream.sh
dir=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}/broker
fail() { echo "clients.sh: $*" >&2; exit 1; }
run() { broker/tests/clients/run.sh --brokers "$brokers" --lines "$lines" "${options[@]}" "$@"; }
raw() { python3 broker/tests/tools/rawkafka.py --brokers "$brokers" "$@"; }
topics() { "${CARGO_TARGET_DIR:-target}/release/millstream" topic list --brokers "$brokers"; }

whole() { # every topic of run.sh's round trips has its lines
  local topic count=0
  for topic in $(topics | grep -E -- '-(none|gzip|snappy|lz4|zstd)-[0-9]+$'); do
    raw check "$topic" --count "$lines" >/dev/null || fail "$topic is not whole"
    count=$((count + 1))
  done
  [ $count -gt 0 ] || fail "no topics"
  echo "$count topics are whole with $1 shards"
}

[ -z "$build" ] || $millstream build
rm -rf "$dir"
trap 'kill -9 "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null || true' EXIT
$millstream start "$port" "$dir" 2 log.segment.bytes=2097152 num.partitions=6
run --keep --restart-command "$millstream restart $dir"
run --codecs - --restart-command "$millstream restart $dir KILL"
for codec in none gzip snappy lz4 zstd; do
  broker/tests/tools/kafka.sh tool producer-perf-test --bootstrap-server "$brokers" --topic "roll-$codec" \
    --num-records 20000 --record-size 1000 --throughput -1 --command-property "compression.type=$codec" | tail -1
done
$millstream restart "$dir"
stops=$(grep -c '^millstream stopped shard=' "$dir/err") || fail "no counters in $dir/err"
! grep '^millstream stopped shard=' "$dir/err" | grep -v 'misrouted_data_requests=0$' ||
  fail "data requests have come to shards that do not own the partition"
echo "$stops times a shard has stopped, and none has got a data request for another"
for shards in 4 1; do
  echo "a restart with $shards shards, clients alive"
  run --codecs - --restart-command "$millstream restart $dir TERM $shards"
  whole "$shards"
done
$millstream stop "$dir"
MILLSTREAM=${CARGO_TARGET_DIR:-target}/release/millstream broker/tests/dump.sh "$dir/data" | tee "$dir/dump"
! grep -q '(0 sealed)' "$dir/dump" || fail "no segment was rolled"
