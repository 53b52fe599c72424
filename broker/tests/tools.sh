#!/bin/bash
# Kafka's own command-line tools against our broker, and whether what they print is right.
#
#   tools.sh [--port P] [--no-build] [--brokers HOST:PORT]
#
# topics, configs, console-producer, console-consumer (in a group), consumer-groups (list, describe, every reset, delete),
# get-offsets, delete-records, log-dirs, consumer-perf-test, verifiable-producer and -consumer: all in one JVM
# (tools/Tools.java), but for the two that need their own. --brokers takes a broker that runs already; all of
# it holds for Apache Kafka as well. About a minute. Needs (Debian): default-jre-headless maven python3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
port=29992 build=1 brokers=
while [ $# -gt 0 ]; do
  case $1 in
    --port) port=$2; shift 2 ;;
    --no-build) build=; shift ;;
    --brokers) brokers=$2; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
cache=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
export MILLSTREAM_TEST_CACHE=$cache
kafka=broker/tests/tools/kafka.sh millstream=broker/tests/tools/millstream.sh dir=$cache/tools
$kafka fetch
rm -rf "$dir"; mkdir -p "$dir"
live=
trap '[ -z "$live" ] || kill -9 $live 2>/dev/null || true; kill -9 "$(cat "$dir/broker/pid" 2>/dev/null)" 2>/dev/null || true' EXIT
if [ -z "$brokers" ]; then
  brokers=127.0.0.1:$port
  [ -z "$build" ] || $millstream build
  $millstream start "$port" "$dir/broker" 2 group.initial.rebalance.delay.ms=0
fi

coproc jvm { exec $kafka main broker/tests/tools/Tools.java 2>"$dir/jvm.err"; }
# Under numbers that subshells see as well.
exec {to_jvm}>&"${jvm[1]}" {from_jvm}<&"${jvm[0]}"
declare -A classes
for name in topics configs console-producer console-consumer consumer-groups get-offsets delete-records log-dirs \
  producer-perf-test consumer-perf-test verifiable-consumer; do
  classes[$name]=$($kafka class $name)
done
: >"$dir/out"; : >"$dir/err"
in=/dev/null out=$dir/out err=$dir/err last=

fail() { # WHY
  { echo "tools.sh: $last"; echo "  $*"; sed 's/^/    out: /' "$out"; sed 's/^/    err: /' "$err"; tail -n 5 "$dir/jvm.err"; } >&2
  exit 1
}

status_of() { # NAME ARGS...; input from $in. The tool's status
  local name=$1 status words; shift
  last="kafka-$name $*"
  printf -v words '\t%s' "$in" "$out" "$err" "$@"
  printf '%s%s\n' "${classes[$name]}" "$words" >&$to_jvm
  read -r -t 120 status <&$from_jvm || fail "no answer within two minutes"
  return "$status"
}
run() { status_of "$1" --bootstrap-server "$brokers" "${@:2}" || fail "it ended with $?"; }
refused() { ! status_of "$1" --bootstrap-server "$brokers" "${@:2}" || fail "it ended well"; }
attempt() { status_of "$1" --bootstrap-server "$brokers" "${@:2}" || true; } # some tools end with 0 whatever they say
says() { local pattern; for pattern in "$@"; do grep -Eq -- "$pattern" "$out" "$err" || fail "it does not say /$pattern/"; done; }
silent() { ! grep -Eq -- "$1" "$out" "$err" || fail "it says /$1/"; }
is() { [ "$2" = "$3" ] || fail "$1: $2, and not $3"; }

run_id=$(date +%s)
t=tools-$run_id
group=group-$run_id

echo "topics, configs"
run topics --create --topic "$t" --partitions 2 --replication-factor 1 --config max.message.bytes=500000
says "^Created topic $t\.$"
refused topics --create --topic "$t"
says "already exists"
run topics --create --topic "$t" --if-not-exists
run topics --create --topic "$t-gone" --partitions 1 --replication-factor 1
run topics --list
says "^$t$" "^$t-gone$"
run topics --describe --topic "$t"
says "Topic: $t[[:space:]]+TopicId: [A-Za-z0-9_-]{22}[[:space:]]+PartitionCount: 2[[:space:]]+ReplicationFactor: 1[[:space:]]+Configs: .*max.message.bytes=500000"
is "partitions that say leader and in-sync replica" "$(grep -Ec 'Partition: [01][[:space:]]+Leader: ([0-9]+)[[:space:]]+Replicas: \1[[:space:]]+Isr: \1' "$out")" 2
run topics --alter --topic "$t" --partitions 3
run topics --describe --topic "$t"
says "PartitionCount: 3"
refused topics --alter --topic "$t" --partitions 2
says "currently has 3 partition.s.; 2 would not be an increase|InvalidPartitionsException"
run topics --delete --topic "$t-gone"
run topics --list
silent "^$t-gone$"
refused topics --describe --topic "$t-gone"
says "Topic '$t-gone' does not exist as expected"
run configs --alter --entity-type topics --entity-name "$t" --add-config max.message.bytes=600000,retention.ms=86400000
says "^Completed updating config for topic $t\.$"
run configs --describe --entity-type topics --entity-name "$t"
says "max.message.bytes=600000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:max.message.bytes=600000, .*DEFAULT_CONFIG:message.max.bytes=1048588\}" "retention.ms=86400000"
run configs --alter --entity-type topics --entity-name "$t" --delete-config retention.ms
run configs --describe --entity-type topics --entity-name "$t"
silent "retention.ms"
run configs --describe --all --entity-type topics --entity-name "$t"
says "max.message.bytes=600000" "segment.bytes=1073741824" "cleanup.policy=delete"
refused configs --alter --entity-type topics --entity-name "$t" --add-config segment.bytes=many
says "InvalidConfigurationException"
refused configs --alter --entity-type topics --entity-name "$t-gone" --add-config segment.bytes=1048576
says "UnknownTopicOrPartitionException|does not exist"

echo "console producer and consumer, offsets"
ends() { # [get-offsets' arguments]: "0:N 1:N 2:N"
  run get-offsets --topic "$t" "$@"
  awk -F: '{ printf "%s%s:%s", (NR > 1 ? " " : ""), $2, $3 }' "$out"
}
keyed() { awk -v from="$1" -v to="$2" 'BEGIN { for (n = from; n <= to; n++) print "key" n "=line " n }'; }
produce() { # FROM TO
  keyed "$1" "$2" >"$dir/lines"
  in=$dir/lines
  run console-producer --topic "$t" --reader-property parse.key=true --reader-property key.separator== \
    --command-property acks=all --command-property compression.type=lz4
  in=/dev/null
}
consume() { # COUNT ARGUMENTS...
  run console-consumer --topic "$t" --max-messages "$1" --timeout-ms 60000 --formatter-property print.key=true \
    --formatter-property print.partition=true --formatter-property print.offset=true "${@:2}"
}
produce 1 300
middle=$(ends)
sleep 0.01
between=$(date -u +%Y-%m-%dT%H:%M:%S.%3N)
sleep 0.01
produce 301 400
last_ends=$(ends)
is "records" "$(awk -F: '{ n += $3 } END { print n }' "$out")" 400
is "the time between two producers" "$(ends --time "$(date -d "${between}Z" +%s%3N)")" "$middle"
is "earliest" "$(ends --time earliest)" "0:0 1:0 2:0"
is "two partitions" "$(ends --partitions 0,2)" "$(cut -d' ' -f1,3 <<<"$last_ends")"
newest=$(ends --time max-timestamp)
# PARTITION, the offset between the producers, the newest record's, the end.
paste <(tr ' :' '\n ' <<<"$middle") <(tr ' :' '\n ' <<<"$newest") <(tr ' :' '\n ' <<<"$last_ends") |
  awk '$1 == $3 && $3 == $5 && $2 <= $4 && $4 < $6 { good++ } END { exit good != 3 }' || fail "max-timestamp says $newest"
# All in a group, which commits when it is closed.
consume 400 --group "$group" --from-beginning --command-property auto.offset.reset=earliest
cut -f3- "$out" | tr '\t' '=' | sort | cmp -s - <(keyed 1 400 | sort) || fail "what came is not what was sent"
for partition in 0 1 2; do
  sed -n "s/^Partition:$partition\tOffset:\([0-9]*\)\t.*/\1/p" "$out" | sort -n -c -u || fail "partition $partition is not in order"
done

echo "consumer groups"
committed() { # [GROUP]: "0:N 1:N 2:N", and what the lag is of
  run consumer-groups --describe --group "${1:-$group}"
  awk -v topic="$t" '$2 == topic { if ($5 - $4 != $6 && $4 != "-") print "lag"; print $3 ":" $4 }' "$out" | sort | tr '\n' ' ' | sed 's/ $//'
}
reset() { # EXPECTED ARGUMENTS...
  run consumer-groups --reset-offsets --group "$group" "${@:2}"
  is "new offsets" "$(awk -v topic="$t" '$2 == topic { print $3 ":" $4 }' "$out" | sort | tr '\n' ' ' | sed 's/ $//')" "$1"
}
run consumer-groups --list
says "^$group$"
run consumer-groups --list --state
says "^$group[[:space:]]+Empty"
run consumer-groups --list --state Stable
silent "^$group"
is "committed" "$(committed)" "$last_ends"
says "Consumer group '$group' has no active members"
run consumer-groups --describe --group "$group" --state
says "^$group[[:space:]]+[^ ]+:[0-9]+[[:space:]]+\([0-9]+\)[[:space:]]+.*Empty[[:space:]]+0"
reset "0:0 1:0 2:0" --topic "$t" --to-earliest --dry-run
is "after a dry run" "$(committed)" "$last_ends"
reset "0:0 1:0 2:0" --all-topics --to-earliest --execute
is "after --to-earliest" "$(committed)" "0:0 1:0 2:0"
reset "$middle" --topic "$t" --to-datetime "$between" --execute
is "after --to-datetime" "$(committed)" "$middle"
reset "0:0 1:0 2:0" --topic "$t" --by-duration P1D --execute
is "after --by-duration of a day" "$(committed)" "0:0 1:0 2:0"
reset "$last_ends" --topic "$t" --by-duration PT0S --execute
is "after --by-duration of nothing" "$(committed)" "$last_ends"
reset "0:7 1:7 2:7" --topic "$t" --to-offset 7 --execute
reset "0:5 1:5" --topic "$t:0,1" --shift-by -2 --execute
is "after --shift-by" "$(committed)" "0:5 1:5 2:7"
reset "0:0 1:0 2:0" --topic "$t" --shift-by -1000000 --dry-run
reset "$last_ends" --topic "$t" --shift-by 1000000 --dry-run
reset "0:5 1:5 2:7" --topic "$t" --to-current --dry-run
reset "$last_ends" --topic "$t" --to-latest --execute
is "after --to-latest" "$(committed)" "$last_ends"
printf '%s,0,3\n%s,2,4\n' "$t" "$t" >"$dir/offsets.csv"
reset "0:3 2:4" --from-file "$dir/offsets.csv" --execute
# From where it was reset to, the group goes on.
left=$(tr ' :' '\n ' <<<"$last_ends" | awk '{ n += $2 - (NR == 1 ? 3 : NR == 3 ? 4 : $2) } END { print n }')
consume "$left" --group "$group"
is "the first of partition 0" "$(sed -n 's/^Partition:0\tOffset:\([0-9]*\)\t.*/\1/p' "$out" | head -1)" 3
is "committed again" "$(committed)" "$last_ends"
run consumer-groups --delete-offsets --group "$group" --topic "$t:1"
says "^$t[[:space:]]+1[[:space:]]+Successful"
is "after --delete-offsets" "$(committed | sed 's/ *1:-//')" "$(cut -d' ' -f1,3 <<<"$last_ends")"

# A group with a member: a consumer in a JVM of its own.
$kafka tool console-consumer --bootstrap-server "$brokers" --topic "$t" --group "$group-live" \
  --command-property client.id=alive >"$dir/live.out" 2>"$dir/live.err" &
live=$!
for _ in $(seq 300); do
  run consumer-groups --list --state Stable
  ! grep -q "^$group-live[[:space:]]" "$out" || break
  sleep 0.2
done
says "^$group-live[[:space:]]+Stable"
run consumer-groups --describe --group "$group-live" --state
says "^$group-live[[:space:]]+[^ ]+:[0-9]+[[:space:]]+\([0-9]+\)[[:space:]]+range[[:space:]]+Stable[[:space:]]+1"
run consumer-groups --describe --group "$group-live" --members --verbose
says "^$group-live[[:space:]]+alive-[0-9a-f-]+[[:space:]]+/127.0.0.1[[:space:]]+alive[[:space:]]+3[[:space:]].*$t:0,1,2"
attempt consumer-groups --reset-offsets --group "$group-live" --topic "$t" --to-earliest --execute
says "can only be reset if the group '$group-live' is inactive, but the current state is Stable"
attempt consumer-groups --delete --group "$group-live"
says "GroupNotEmptyException"
attempt consumer-groups --delete-offsets --group "$group-live" --topic "$t"
says "GroupSubscribedToTopicException"
produce 401 410
for _ in $(seq 300); do [ "$(grep -c '^line 4' "$dir/live.out")" != 10 ] || break; sleep 0.1; done
is "what the living consumer has" "$(sort -V "$dir/live.out")" "$(seq -f 'line %g' 401 410)"
kill $live; wait $live 2>/dev/null || true; live=
run consumer-groups --describe --group "$group-live" --state
says "Empty"
is "what the consumer left committed" "$(committed "$group-live")" "$(ends)"
run consumer-groups --delete --group "$group" --group "$group-live"
says "Deletion of requested consumer groups \('$group', '$group-live'\) was successful|Deletion of requested consumer groups \('$group-live', '$group'\) was successful"
run consumer-groups --list
silent "^$group"
attempt consumer-groups --describe --group "$group"
says "$group (not found|does not exist)|Consumer group '$group' does not exist"

echo "deleted records, log directories"
last_ends=$(ends)
end=${last_ends%% *} end=${end#*:}
cat >"$dir/delete.json" <<JSON
{"partitions": [{"topic": "$t", "partition": 0, "offset": 10}, {"topic": "$t", "partition": 1, "offset": -1}], "version": 1}
JSON
run delete-records --offset-json-file "$dir/delete.json"
low=$(tr ' ' '\n' <<<"$last_ends" | sed -n 's/^1://p')
says "partition: $t-0[[:space:]]+low_watermark: 10" "partition: $t-1[[:space:]]+low_watermark: $low"
is "where logs begin" "$(ends --time earliest)" "0:10 1:$low 2:0"
is "where logs end" "$(ends)" "$last_ends"
printf '{"partitions": [{"topic": "%s", "partition": 0, "offset": %s}], "version": 1}' "$t" $((end + 1)) >"$dir/delete.json"
attempt delete-records --offset-json-file "$dir/delete.json"
says "OffsetOutOfRangeException"
consume $((end - 10)) --partition 0 --offset 10
is "the first record that is left" "$(head -1 "$out" | cut -f2)" "Offset:10"
run log-dirs --describe --topic-list "$t"
says "^Received log directory information from brokers"
python3 - "$out" "$t" <<'PYTHON' || fail "that is not what the logs are"
import json, sys
document = next(json.loads(line) for line in open(sys.argv[1]) if line.startswith("{"))
seen = {}
for broker in document["brokers"]:
    for directory in broker["logDirs"]:
        assert directory["error"] is None and directory["logDir"].startswith("/"), directory
        for partition in directory["partitions"]:
            assert partition["partition"] not in seen, f"{partition} twice"
            assert (partition["offsetLag"], partition["isFuture"]) == (0, False), partition
            seen[partition["partition"]] = partition["size"]
assert sorted(seen) == [f"{sys.argv[2]}-{number}" for number in range(3)], seen
# Nothing is left of partition 1: Kafka keeps its last segment all the same, we need not.
least = {f"{sys.argv[2]}-1": 0}
assert all(least.get(name, 101) <= size < 100_000 for name, size in seen.items()), seen
PYTHON

echo "perf tests, verifiable clients"
run topics --create --topic "$t-perf" --partitions 3 --replication-factor 1
run producer-perf-test --topic "$t-perf" --num-records 20000 --record-size 200 --throughput -1 --command-property acks=all
says "^20000 records sent"
run consumer-perf-test --topic "$t-perf" --num-records 20000 --timeout 60000
is "records of the perf test" "$(awk -F', *' 'NR > 1 && $5 ~ /^[0-9]+$/ { print $5 }' "$out")" 20000
run topics --create --topic "$t-verifiable" --partitions 3 --replication-factor 1
# Its summary comes when its JVM ends.
last="kafka-verifiable-producer --max-messages 500"
$kafka tool verifiable-producer --bootstrap-server "$brokers" --topic "$t-verifiable" --max-messages 500 --acks -1 \
  >"$out" 2>"$err" || fail "it ended with $?"
is "values that were acknowledged" "$(grep '"name":"producer_send_success"' "$out" | grep -o '"value":"[0-9]*"' | sort -u | wc -l)" 500
says '"acked":500' '"sent":500'
run verifiable-consumer --topic "$t-verifiable" --group-id "$group-verifiable" --max-messages 500 --reset-policy earliest
says '"name":"partitions_assigned"' '"name":"offsets_committed"' '"success":true'
silent '"success":false'
python3 - "$out" <<'PYTHON' || fail "that is not what was sent"
import json, sys
consumed = {}
for event in map(json.loads, open(sys.argv[1])):
    for partition in event["partitions"] if event["name"] == "records_consumed" else []:
        assert partition["minOffset"] == consumed.get(partition["partition"], 0), event
        consumed[partition["partition"]] = partition["maxOffset"] + 1
assert sum(consumed.values()) == 500, consumed
PYTHON
for name in "$t" "$t-perf" "$t-verifiable"; do run topics --delete --topic "$name"; done

if [ -e "$dir/broker/pid" ]; then
  $millstream stop "$dir/broker"
  ! grep -v '^millstream stopped' "$dir/broker/err" | grep . || { echo "tools.sh: the broker complained" >&2; exit 1; }
fi
echo "all ok, $SECONDS s"
