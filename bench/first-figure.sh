#!/bin/bash
# Produces the same batches to Millstream and to Apache Kafka, round by round on the same disk, and prints a table.
# docs/performance.md says what is measured and how to read it.
# Needs: a release build (cargo build --release -p millstream -p millstream-bench), fio, python3,
# and for Kafka default-jre-headless and maven (broker/tests/tools/kafka.sh fetches it).
#
#   first-figure.sh [--rounds N] [--seconds N] [--warmup N] [--rate RECORDS_PER_S] [--systems LIST] [--data DIR]
#   first-figure.sh --short      our broker alone, a few seconds: that it runs, not how fast
#
# LIST is some of: millstream kafka-flush kafka-default, with commas. Each round takes the systems, and within them the
# batch sizes, in the other order than the round before. DIR (default: bench/.figure) must be on the disk in question;
# it holds all data, is emptied, and keeps results.jsonl and the servers' logs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$here")
tools=$repo/broker/tests/tools
target=${CARGO_TARGET_DIR:-$repo/target}/release
rounds=5 seconds=8 warmup=3 rate=20000 systems=millstream,kafka-flush,kafka-default data=$here/.figure fio=yes
batch_sizes=(16384 262144)
port_millstream=${MILLSTREAM_PORT:-21092} port_flush=${KAFKA_FLUSH_PORT:-22092} port_default=${KAFKA_DEFAULT_PORT:-23092}

fail() { echo "first-figure.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --warmup) warmup=$2; shift 2 ;;
    --rate) rate=$2; shift 2 ;;
    --systems) systems=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --short) rounds=1 seconds=1 warmup=1 rate=2000 systems=millstream fio=no; shift ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
IFS=, read -ra systems <<<"$systems"

[ -x "$target/bench" ] || fail "no $target/bench: cargo build --release -p millstream-bench"
mkdir -p "$data"
data=$(cd "$data" && pwd)
[ -e "$data/results.jsonl" ] || [ -z "$(ls -A "$data")" ] || fail "$data is not empty and not ours"
rm -rf "${data:?}"/*
results=$data/results.jsonl
: >"$results"
declare -A pid port

start() { # SYSTEM
  case $1 in
    millstream)
      [ -x "$target/millstream" ] || fail "no $target/millstream: cargo build --release -p millstream"
      port[$1]=$port_millstream
      "$target/millstream" start --data-dir "$data/$1" --port $port_millstream --set log.segment.delete.delay.ms=0 \
        --set admin.listen= \
        >"$data/$1.out" 2>&1 </dev/null &
      pid[$1]=$!
      for _ in $(seq 100); do
        grep -q "millstream ready" "$data/$1.out" && return
        kill -0 "${pid[$1]}" 2>/dev/null || { cat "$data/$1.out" >&2; fail "millstream did not start"; }
        sleep 0.1
      done
      cat "$data/$1.out" >&2; fail "millstream is not ready after 10 s" ;;
    # What deleted topics leave is removed early, so that it does not fill the disk.
    kafka-flush)
      port[$1]=$port_flush
      pid[$1]=$("$tools/kafka.sh" start $port_flush "$data/$1" log.flush.interval.messages=1 \
        log.segment.delete.delay.ms=1000) ;;
    kafka-default)
      port[$1]=$port_default
      pid[$1]=$("$tools/kafka.sh" start $port_default "$data/$1" log.segment.delete.delay.ms=1000) ;;
    *) fail "unknown system $1" ;;
  esac
}

stop_all() {
  local system
  for system in "${!pid[@]}"; do kill "${pid[$system]}" 2>/dev/null || true; done
  for system in "${!pid[@]}"; do
    for _ in $(seq 300); do kill -0 "${pid[$system]}" 2>/dev/null || break; sleep 0.1; done
    kill -9 "${pid[$system]}" 2>/dev/null || true
  done
}
trap stop_all EXIT

# What the last system left in the page cache must not be written while the next is measured.
settle() { sync -f "$data"; sleep 2; }

note() { # KEY=VALUE... : adds them to the JSON object on standard input, and the result to the results
  python3 -c '
import json, sys
row = json.load(sys.stdin)
row.update(pair.split("=", 1) for pair in sys.argv[1:])
print(json.dumps(row))' "$@" >>"$results"
}

measure() { # SYSTEM BATCH_SIZE ROUND
  local system=$1 batch=$2 round=$3 topic="figure-$2-$3" pace
  local load=(produce --brokers "127.0.0.1:${port[$system]}" --topic "$topic" --partitions 6 --record-size 1024
    --batch-size "$batch" --acks all --connections 6 --in-flight 5 --seconds "$seconds" --server-pid "${pid[$system]}" --json)
  for pace in flat-out paced; do
    local limit=(--warmup-seconds "$warmup")
    [ $pace = flat-out ] || limit+=(--rate "$rate")
    settle
    echo "== round $round, $system, batches of $batch bytes, $pace" >&2
    "$target/bench" "${load[@]}" "${limit[@]}" >"$data/last.json" || { cat "$data/last.json" >&2; fail "bench failed"; }
    note "system=$system" "batch=$batch" "round=$round" "pace=$pace" <"$data/last.json"
  done
  # The files go after the brokers' delay; not while the next system is measured.
  python3 "$tools/rawkafka.py" --brokers "127.0.0.1:${port[$system]}" delete "$topic" >/dev/null
  sleep 3
}

# A JVM compiles what runs often: a first run of each kind is not counted.
warm_up() { # SYSTEM
  local batch
  for batch in "${batch_sizes[@]}"; do
    echo "== warm-up, $1, batches of $batch bytes" >&2
    "$target/bench" produce --brokers "127.0.0.1:${port[$1]}" --topic warm-up --partitions 6 --batch-size "$batch" \
      --connections 6 --seconds "$seconds" >/dev/null || fail "bench failed"
  done
  python3 "$tools/rawkafka.py" --brokers "127.0.0.1:${port[$1]}" delete warm-up >/dev/null
}

reversed() { local item list=(); for item in "$@"; do list=("$item" "${list[@]}"); done; echo "${list[@]}"; }

for system in "${systems[@]}"; do start "$system"; warm_up "$system"; done
sleep 3
for round in $(seq "$rounds"); do
  if [ $((round % 2)) = 1 ]; then
    order=("${systems[@]}") sizes=("${batch_sizes[@]}")
  else
    read -ra order <<<"$(reversed "${systems[@]}")"; read -ra sizes <<<"$(reversed "${batch_sizes[@]}")"
  fi
  for system in "${order[@]}"; do
    for batch in "${sizes[@]}"; do measure "$system" "$batch" "$round"; done
  done
  if [ $fio = yes ]; then
    settle
    "$tools/fio-flush.sh" "$data/fio" --seconds 1 | while read -r line; do note "system=fio" "round=$round" <<<"$line"; done
  fi
done
python3 "$here/figure_table.py" "$results"
