#!/bin/bash
# The stock command-line tools of Apache Kafka 4.x, as a user would type them, over real text. What the other tools
# print is looked at in ../tools.sh.
#   java_tools.sh roundtrip BROKERS TOPIC CODEC CORPUS OUT
# The console producer has no choice of partition, so what is checked is: every record comes back
# once, its bytes unchanged, and in each partition in the order in which it was sent.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool() { "$here/../tools/kafka.sh" tool "$@"; }
[ "$1" = roundtrip ] || { echo "java_tools.sh knows roundtrip only" >&2; exit 2; }
brokers=$2 topic=$3 codec=$4 corpus=$5 out=$6
fail() { echo "$*" >&2; exit 1; }

tool topics --bootstrap-server "$brokers" --create --topic "$topic" --partitions 6 --replication-factor 1 >"$out/create.txt"
tool topics --bootstrap-server "$brokers" --list | grep -qx "$topic" || fail "kafka-topics --list does not show $topic"
tool console-producer --bootstrap-server "$brokers" --topic "$topic" --compression-codec "$codec" <"$corpus/all.txt" >"$out/producer.txt"
tool get-offsets --bootstrap-server "$brokers" --topic "$topic" >"$out/offsets.txt"
total=$(awk -F: '{ n += $3 } END { print n }' "$out/offsets.txt")
lines=$(wc -l <"$corpus/all.txt")
[ "$total" = "$lines" ] || fail "kafka-get-offsets sums to $total, sent were $lines"
while IFS=: read -r _ partition count; do
  : >"$out/read-$partition.txt"
  [ "$count" = 0 ] && continue
  tool console-consumer --bootstrap-server "$brokers" --topic "$topic" --partition "$partition" --offset earliest \
    --max-messages "$count" --timeout-ms 60000 >"$out/read-$partition.txt" 2>"$out/consumer-$partition.err"
  cut -f1 "$out/read-$partition.txt" | sort -n -c -u || fail "partition $partition is not in order"
done <"$out/offsets.txt"
sort -n -m "$out"/read-*.txt | cmp - "$corpus/all.txt" || fail "what came back is not what was sent"
tool producer-perf-test --bootstrap-server "$brokers" --topic "$topic-perf" --num-records 20000 --record-size 200 --throughput -1 \
  --command-property acks=all --command-property "compression.type=$codec" >"$out/perf.txt"
grep -q "^20000 records sent" "$out/perf.txt" || fail "kafka-producer-perf-test: $(tail -1 "$out/perf.txt")"
