#!/bin/bash
# kill -9 at random moments under load; nothing acknowledged may be lost, doubled or reordered.
#   kill9.sh [--broker-command 'CMD with {data} and {port}'] [--kills 100] [--work DIR] [--port P] [--seed N] ...
# Without --broker-command: our own, built here, with two shards and a small journal and segments. All options: kill9.sh --help.
# For Apache Kafka: --broker-command 'broker/tests/tools/kafka.sh run {port} {data} log.flush.interval.messages=1 broker.session.timeout.ms=1000 broker.heartbeat.interval.ms=200'
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$("$here/clients/venv.sh")
cd "$here/../.."
work=()
case " $* " in *" --work "*) ;; *)
  directory=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}/kill9
  rm -rf "$directory"; work=(--work "$directory") ;;
esac
case " $* " in *" --broker-command "* | *" --help "*) ;; *) broker/tests/tools/millstream.sh build ;; esac
exec "$python" broker/tests/tools/kill_loop.py "${work[@]}" "$@"
