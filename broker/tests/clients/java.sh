#!/bin/bash
# The Java client of Apache Kafka 4.x. Commands: see live.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../tools/kafka.sh" main "$here/Client.java" "$@"
