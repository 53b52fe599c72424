#!/bin/bash
# Records what Apache Kafka answers to the malformed requests of broker/tests/protocol/recorded.rs, into recorded.txt
# beside it, and the configs of its brokers, into broker_configs.txt. Needs what kafka.sh needs.
#   record_kafka.sh [PORT]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-29392}
data=$(mktemp -d)
trap '"$here/kafka.sh" stop "$data" || true; rm -rf "$data"' EXIT
"$here/kafka.sh" start "$port" "$data"
# The first producer id comes late: a broker that has just started says so, once.
for file in /dev/null "$here/../protocol/recorded.txt"; do
  MILLSTREAM_TEST_BROKER=127.0.0.1:$port MILLSTREAM_RECORD_TO=$file \
    cargo test -q -p millstream --test protocol malformed_requests
done
MILLSTREAM_TEST_BROKER=127.0.0.1:$port MILLSTREAM_RECORD_CONFIGS_TO=$here/../protocol/broker_configs.txt \
  cargo test -q -p millstream --test protocol every_config_of_kafkas_brokers
