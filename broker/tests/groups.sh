#!/bin/bash
# Consumer groups of stock clients: three members over six partitions; one is killed with -9, another joins, the broker is
# restarted and killed with -9. Every record is read at least once, and committed offsets never go back (clients/groups.py).
#
#   groups.sh [--clients LIST] [--port P] [--no-build]
#
# LIST is any of kcat,java,kafka-python,confluent,rdkafka,franz-go,platformatic, with commas; all by default. Needs what
# clients/run.sh needs. Without go there is no franz-go, and without node no platformatic: they are skipped, and named.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
clients=kcat,java,kafka-python,confluent,rdkafka,franz-go,platformatic port=29792 build=1
while [ $# -gt 0 ]; do
  case $1 in
    --clients) clients=$2; shift 2 ;;
    --port) port=$2; shift 2 ;;
    --no-build) build=; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
cache=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
export MILLSTREAM_TEST_CACHE=$cache
millstream=broker/tests/tools/millstream.sh dir=$cache/groups brokers=127.0.0.1:$port
python=$(broker/tests/clients/venv.sh)
without() { # COMMAND CLIENT: whether the client has to be left out
  command -v "$1" >/dev/null && return 1
  printf '%-14s SKIPPED needs %s\n' "$2" "$1"
}
# What a client needs is made before its members start, several at once.
for client in ${clients//,/ }; do
  case $client in
    java) broker/tests/tools/kafka.sh fetch ;;
    rdkafka) cargo build --quiet --workspace --example rdkafka_client ;;
    franz-go) if without go franz-go; then clients=${clients/franz-go/}; else broker/tests/clients/franz-go.sh fetch; fi ;;
    platformatic)
      if without npm platformatic; then clients=${clients/platformatic/}; else broker/tests/clients/platformatic.sh fetch; fi ;;
  esac
done
[ -z "$build" ] || $millstream build
rm -rf "$dir"
trap 'kill -9 "$(cat "$dir/broker/pid" 2>/dev/null)" 2>/dev/null || true' EXIT
$millstream start "$port" "$dir/broker" 2 group.initial.rebalance.delay.ms=500
failed=0
for client in ${clients//,/ }; do
  assignor=cooperative-sticky # if the client has it
  case $client in
    kcat) program=(broker/tests/clients/kcat.sh) assignor=range ;;
    java) program=(broker/tests/clients/java.sh) ;;
    kafka-python) program=("$python" broker/tests/clients/kafka_python_client.py) assignor=range ;;
    confluent) program=("$python" broker/tests/clients/confluent_client.py) ;;
    rdkafka) program=("${CARGO_TARGET_DIR:-target}/debug/examples/rdkafka_client") ;;
    franz-go | platformatic) program=("broker/tests/clients/$client.sh") ;;
    *) echo "groups.sh: unknown client $client" >&2; exit 2 ;;
  esac
  if said=$("$python" broker/tests/clients/groups.py --brokers "$brokers" --topic "t-$client" --group "g-$client" \
    --assignor $assignor --dir "$dir/$client" --restart-command "$millstream restart $dir/broker" -- "${program[@]}" 2>&1); then
    printf '%-14s ok      %s\n' "$client" "$said"
  else
    printf '%-14s FAILED  %s\n' "$client" "$said"
    tail -n 5 "$dir/$client"/*.err
    failed=1
  fi
done
$millstream stop "$dir/broker"
! grep -v '^millstream stopped' "$dir/broker/err" | grep . || { echo "groups.sh: the broker complained" >&2; failed=1; }
exit $failed
