#!/bin/bash
# Configs of brokers, as a person changes them with Apache Kafka's own kafka-configs:      configs.sh [PORT]
# For one broker and for all, shown, kept over a kill -9, put back; refused where Kafka refuses.
# Needs what tools/kafka.sh needs. Millstream is built as a release, unless MILLSTREAM_NO_BUILD is set.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-29692}
brokers=127.0.0.1:$port
millstream=$here/tools/millstream.sh
dir=${MILLSTREAM_TEST_CACHE:-$here/.cache}/configs
fail() { echo "configs.sh: $*" >&2; exit 1; }
configs() { "$here/tools/kafka.sh" tool configs --bootstrap-server "$brokers" "$@" 2>&1; }
shows() { # TEXT, on standard input
  local text; text=$(cat)
  grep -qF "$1" <<<"$text" || fail "no '$1' in: $text"
}

[ -n "${MILLSTREAM_NO_BUILD:-}" ] || "$millstream" build
rm -rf "$dir"
trap 'kill -9 "$(cat "$dir/pid" 2>/dev/null)" 2>/dev/null || true' EXIT
"$millstream" start "$port" "$dir" 2 num.partitions=3
one=(--entity-type brokers --entity-name 1000) all=(--entity-type brokers --entity-default)
listed=$(configs "${one[@]}" --describe --all | grep -c 'sensitive=')
[ "$listed" -ge 350 ] || fail "--describe --all shows $listed configs"
configs "${one[@]}" --describe --all | shows "num.partitions=3 sensitive=false synonyms={STATIC_BROKER_CONFIG:num.partitions=3, DEFAULT_CONFIG:num.partitions=1}"
configs "${all[@]}" --alter --add-config log.segment.bytes=2097152,log.cleanup.policy=[compact,delete] | shows "Completed updating"
configs "${one[@]}" --alter --add-config log.segment.bytes=4194304 | shows "Completed updating"
"$millstream" restart "$dir" KILL
configs "${all[@]}" --describe | shows "log.segment.bytes=2097152 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.segment.bytes=2097152}"
configs "${one[@]}" --describe | shows "log.segment.bytes=4194304 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:log.segment.bytes=4194304, DYNAMIC_DEFAULT_BROKER_CONFIG:log.segment.bytes=2097152, DEFAULT_CONFIG:log.segment.bytes=1073741824}"
configs --entity-type brokers --entity-name 1001 --describe --all | shows "log.cleanup.policy=compact,delete"
(configs "${one[@]}" --alter --add-config num.partitions=7 || true) | shows "Cannot update these configs dynamically"
(configs "${all[@]}" --alter --add-config message.max.bytes=soon || true) | shows "Invalid value soon for configuration message.max.bytes"
configs "${one[@]}" --alter --delete-config log.segment.bytes | shows "Completed updating"
configs "${all[@]}" --alter --delete-config log.segment.bytes,log.cleanup.policy | shows "Completed updating"
configs "${one[@]}" --describe --all | shows "log.segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}"
"$millstream" stop "$dir"
echo "kafka-configs shows $listed configs of a broker, and changes them for one and for all"
