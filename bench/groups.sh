#!/bin/bash
# Two proofs of how consumer groups scale, on a broker of its own.
#   (a) A group of 200 members over 1,000 partitions has settled within the session timeout and 2 seconds after a
#       member's death: its leader's, and then others'.
#   (b) 2,000 groups that each commit once a second move the 99th percentile of produce latency by at most 1.5 times:
#       rounds without and with them, in turn, on the same broker.
# Needs a release build: cargo build --release -p millstream -p millstream-bench; and python3.
#
#   groups.sh [--rounds N] [--seconds N] [--rate RECORDS_PER_S] [--kills N] [--data DIR]
#   groups.sh --short      few members and groups, a few seconds: that it is right, not how fast
#
# What must be right fails at once: a partition that is nobody's or two members', a commit that was acknowledged and is not
# there, a request that is refused. The figures are printed; in the long form one that does not hold fails as well. DIR
# (default: bench/.groups) is emptied.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$repo/target}/release
rounds=5 seconds=10 rate=20000 kills=3 data=$here/.groups short=
members=200 partitions=1000 groups=2000 session_ms=6000
port=${MILLSTREAM_PORT:-24092}

fail() { echo "groups.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --rate) rate=$2; shift 2 ;;
    --kills) kills=$2; shift 2 ;;
    --data) data=$2; shift 2 ;;
    --short) short=yes rounds=1 seconds=2 rate=2000 kills=2 members=20 partitions=100 groups=50; shift ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done

for binary in bench bench-groups millstream; do
  [ -x "$target/$binary" ] || fail "no $target/$binary: cargo build --release -p millstream -p millstream-bench"
done
# Each member has a connection, here and in the broker.
ulimit -n "$(ulimit -Hn)"
mkdir -p "$data"
[ -e "$data/broker.out" ] || [ -z "$(ls -A "$data")" ] || fail "$data is not empty and not ours"
rm -rf "${data:?}"/*
"$target/millstream" start --data-dir "$data/broker" --port "$port" >"$data/broker.out" 2>&1 </dev/null &
broker=$!
beside=
stop() {
  [ -z "$beside" ] || kill "$beside" 2>/dev/null || true
  kill "$broker" 2>/dev/null || true
  wait || true
}
trap stop EXIT
for _ in $(seq 100); do
  grep -q "millstream ready" "$data/broker.out" && break
  kill -0 "$broker" 2>/dev/null || { cat "$data/broker.out" >&2; fail "the broker did not start"; }
  sleep 0.1
done
grep -q "millstream ready" "$data/broker.out" || fail "the broker is not ready after 10 s"
at=127.0.0.1:$port

echo "== a group of $members members over $partitions partitions, $kills deaths"
"$target/bench-groups" --brokers "$at" --topic one --partitions "$partitions" --members "$members" \
  --session-timeout-ms $session_ms --heartbeat-interval-ms 1000 --seconds "$seconds" --kills "$kills" --json >"$data/deaths.json" ||
  { cat "$data/deaths.json" >&2; fail "the group is not right"; }

produce() { # NAME
  "$target/bench" produce --brokers "$at" --topic produced --partitions 6 --record-size 1024 --connections 6 \
    --acks all --rate "$rate" --warmup-seconds 2 --seconds "$seconds" --json >"$data/$1.json" ||
    { cat "$data/$1.json" >&2; fail "a batch was refused"; }
}

without() { # ROUND
  echo "== round $1, without groups"
  produce "without-$1"
}

with() { # ROUND
  echo "== round $1, beside $groups groups that each commit once a second"
  : >"$data/groups-$1.err"
  # They commit for longer than is produced, and settle before. Their program stands back: it shares the cores with the
  # broker and with what measures, and what it takes from them is not what the broker does for groups.
  nice -n 19 "$target/bench-groups" --brokers "$at" --topic many --partitions 6 --groups "$groups" --session-timeout-ms 60000 \
    --heartbeat-interval-ms 3000 --seconds $((seconds + 6)) --json >"$data/groups-$1.json" 2>"$data/groups-$1.err" &
  beside=$!
  until grep -q "all have settled" "$data/groups-$1.err"; do
    kill -0 "$beside" 2>/dev/null || { cat "$data/groups-$1.err" >&2; fail "the groups did not settle"; }
    sleep 0.1
  done
  produce "with-$1"
  wait "$beside" || { cat "$data/groups-$1.json" "$data/groups-$1.err" >&2; fail "the groups are not right"; }
  beside=
}

for round in $(seq "$rounds"); do
  if [ $((round % 2)) = 1 ]; then without "$round"; with "$round"; else with "$round"; without "$round"; fi
done

python3 - "$data" "$rounds" "$session_ms" "$groups" "${short:-no}" <<'PYTHON'
import json, statistics, sys
data, rounds, session_ms, groups, short = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
def read(name):
    with open(f"{data}/{name}.json") as file:
        return json.load(file)
failed = []
deaths = read("deaths")
print(f"(a) {deaths['members']} members over {deaths['partitions']} partitions, session timeout {session_ms} ms:")
print(f"    first settled after {deaths['settled_ms']} ms; {deaths['commits']} commits meanwhile")
for ms in deaths["after_death_ms"]:
    print(f"    settled {ms} ms after a death, {ms - session_ms:+} ms from the end of the session")
    if ms > session_ms + 2000:
        failed.append(f"a group settled {ms} ms after a death")
def p99(name):
    return read(name)["latency_us"]["p99"] / 1000
ratios = []
print(f"(b) produce p99 without and with {groups} groups:")
for number in range(1, rounds + 1):
    alone, beside, those = p99(f"without-{number}"), p99(f"with-{number}"), read(f"groups-{number}")
    ratios.append(beside / alone)
    print(f"    round {number}: {alone:.2f} ms, {beside:.2f} ms: {beside / alone:.2f} times;"
          f" {those['commits']} commits, p99 {those['commit_p99_ms']:.2f} ms")
    if those["commits"] == 0:
        sys.exit("the groups committed nothing")
median = statistics.median(ratios)
print(f"    median: {median:.2f} times")
if median > 1.5:
    failed.append(f"the p99 moved by {median:.2f} times")
for what in failed:
    print(f"does not hold: {what}")
sys.exit(0 if short == "yes" else bool(failed))
PYTHON
