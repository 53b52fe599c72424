#!/bin/bash
# kcat (librdkafka). Commands: see live.py. kcat tells no offsets when it produces: they are "-" in DIR/acked,
# and a record counts as acknowledged when kcat, which fails on an undelivered one, has ended with 0.
set -euo pipefail
command=$1 brokers=$2 topic=$3
partitions=6
case $command in
  group)
    group=$4 file=$5
    exec kcat -b "$brokers" -G "$group" -E -q -u -f '%p %o\n' -X auto.offset.reset=earliest -X session.timeout.ms=6000 \
      -X heartbeat.interval.ms=1000 -X auto.commit.interval.ms=300 "$topic" >"$file" ;;
  roundtrip)
    codec=$4 corpus=$5 out=$6
    for p in $(seq 0 $((partitions - 1))); do
      kcat -P -b "$brokers" -t "$topic" -p "$p" -z "$codec" -X linger.ms=20 -X acks=all -l "$corpus/part-$p.txt"
    done
    for p in $(seq 0 $((partitions - 1))); do
      timeout 300 kcat -C -q -b "$brokers" -t "$topic" -p "$p" -o beginning -e -X check.crcs=true >"$out/part-$p.txt"
    done ;;
  live-produce)
    dir=$4
    numbers() {
      local n=0
      while [ ! -e "$dir/stop" ]; do echo "$n"; n=$((n + 1)); sleep 0.003; done
    }
    numbers | tee "$dir/sent" | kcat -P -E -b "$brokers" -t "$topic" -p 0 -X enable.idempotence=true -X linger.ms=5
    sed 's/$/ 0 -/' "$dir/sent" >"$dir/acked" ;;
  live-consume)
    dir=$4
    kcat -C -q -u -E -b "$brokers" -t "$topic" -p 0 -o beginning -f '%p %o %s\n' >"$dir/consumed" &
    consumer=$!
    trap 'kill $consumer 2>/dev/null' EXIT
    while [ ! -e "$dir/stop-consumer" ]; do
      kill -0 $consumer 2>/dev/null || exit 1
      sleep 0.2
    done ;;
esac
