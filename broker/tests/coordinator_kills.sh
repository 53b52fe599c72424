#!/bin/bash
# kill -9 at random moments under consumer groups, often followed by a start with another number of shards: coordinators
# reload, committed offsets never go back, and no commit of an old generation is taken.
#   coordinator_kills.sh [--kills 100] [--seconds S] [--seed N] [--shards 3] [--work DIR] [--port P] [--no-build] ...
# All options: coordinator_kills.sh --help. What happened is in DIR/history, as logcheck.py reads it.
# For Apache Kafka: --shards 1 --kills 2 --seconds 24 --broker-command 'broker/tests/tools/kafka.sh run {port} {data} log.flush.interval.messages=1
#   broker.session.timeout.ms=1000 broker.heartbeat.interval.ms=200 group.min.session.timeout.ms=200 group.initial.rebalance.delay.ms=100'
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
work=() options=() build=1
for word in "$@"; do
  case $word in --no-build) build= ;; *) options+=("$word") ;; esac
done
case " $* " in *" --work "*) ;; *)
  directory=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}/coordinator_kills
  rm -rf "$directory"; work=(--work "$directory") ;;
esac
case " $* " in *" --broker-command "* | *" --help "*) build= ;; esac
[ -z "$build" ] || broker/tests/tools/millstream.sh build
python3 broker/tests/tools/logcheck.py --selftest
exec python3 broker/tests/tools/coordinator_kills.py "${work[@]}" "${options[@]}"
