#!/bin/bash
# The integration tests of two client libraries against our broker: kafka-python's own (its source distribution on PyPI
# ships them) and librdkafka's own (the crate rdkafka-sys ships them).
#
#   suites.sh [kafka-python|librdkafka] [--only PART,...] [--short] [--port P] [--jobs N] [--no-build] [--kafka | --fetch]
#
# Without a name: both. Prints every test that passes, and every one that fails or is left out with its reason: those
# are in suites/kafka_python.txt and suites/librdkafka.txt. It fails if a test that is not listed does not pass, and if
# one that is listed as failing does.
#   --only PART    tests whose names have one of these parts, left out or not
#   --short        without the tests that are listed as slow
#   --jobs N       so many of librdkafka's tests at a time: they wait more than they work. 4 without it, or the cores
#   --fetch        only downloads the suites, and builds librdkafka's
#   --kafka        asks Apache Kafka (tools/kafka.sh) instead, and expects every test to pass: to compare
# Brokers: two shards; one shard, for the tests that take a single broker for granted; two shards that create no topics
# by themselves. Needs python3 with venv; for librdkafka gcc, g++, make, zlib's headers (zlib1g-dev), and what
# tools/kafka.sh needs, as a few of its tests call kafka-topics. Sources, builds and logs are below
# broker/tests/.cache/suites.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
suites=() port=29692 build=1 kafka='' fetch='' options=() jobs=()
while [ $# -gt 0 ]; do
  case $1 in
    kafka-python | librdkafka) suites+=("$1"); shift ;;
    --only) options+=("$1" "$2"); shift 2 ;;
    --short) options+=("$1"); shift ;;
    --jobs) jobs=("$1" "$2"); shift 2 ;;
    --port) port=$2; shift 2 ;;
    --no-build) build=; shift ;;
    --fetch) fetch=1 build=; shift ;;
    --kafka) kafka=1; options+=(--no-list); shift ;;
    *) sed -n '2,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
[ ${#suites[@]} -gt 0 ] || suites=(kafka-python librdkafka)
cache=${MILLSTREAM_TEST_CACHE:-broker/tests/.cache}
mkdir -p "$cache/suites"; cache=$(cd "$cache" && pwd)
dir=$cache/suites
millstream=broker/tests/tools/millstream.sh
fail() { echo "suites.sh: $*" >&2; exit 1; }

fetch_kafka_python() { # sets $python and $sources
  python=$(broker/tests/clients/venv.sh "$here/suites/requirements.txt" suites/venv)
  local version; version=$(sed -n 's/^kafka-python==//p' broker/tests/clients/requirements.txt)
  sources=$dir/kafka_python-$version
  [ -e "$sources/.complete" ] && return
  rm -rf "$sources"
  "$python" -m pip download -q --no-deps --no-binary :all: -d "$dir" "kafka-python==$version" >&2 ||
    fail "pip cannot download the sources of kafka-python $version"
  tar -xzf "$dir/kafka_python-$version.tar.gz" -C "$dir"
  touch "$sources/.complete"
}

fetch_librdkafka() { # sets $sources
  local host manifest shipped version tool
  for tool in gcc g++ make; do command -v $tool >/dev/null || fail "no $tool: apt-get install build-essential"; done
  broker/tests/tools/kafka.sh fetch
  # Some of its tests call this program of a Kafka; ZooKeeper's and Kafka's other programs are not asked for.
  mkdir -p "$dir/kafka-path/bin"
  printf '#!/bin/sh\nexec %q/tools/kafka.sh tool topics "$@"\n' "$here" >"$dir/kafka-path/bin/kafka-topics.sh"
  chmod +x "$dir/kafka-path/bin/kafka-topics.sh"
  export KAFKA_PATH=$dir/kafka-path
  host=$(rustc -vV | sed -n 's/^host: //p')
  manifest=$(cargo metadata --format-version 1 --locked --filter-platform "$host" | python3 -c '
import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "rdkafka-sys"))')
  shipped=$(dirname "$manifest")
  version=$(basename "$shipped")
  sources=$dir/librdkafka-${version##*+}
  [ -e "$sources/.complete" ] && return
  rm -rf "$sources"
  cp -a "$shipped/librdkafka" "$sources"
  echo "building librdkafka ${version##*+} and its tests: minutes, once"
  (cd "$sources" &&
    ./configure --disable-ssl --disable-gssapi --disable-curl &&
    make -j"$(nproc)" libs && make -j"$(nproc)" -C tests build) >"$dir/librdkafka-build.log" 2>&1 ||
    { tail -5 "$dir/librdkafka-build.log" >&2; fail "librdkafka does not build, see $dir/librdkafka-build.log"; }
  touch "$sources/.complete"
}

stop_brokers() {
  local cluster
  for cluster in default one-shard noautocreate; do kill -9 "$(cat "$dir/$cluster/pid" 2>/dev/null)" 2>/dev/null || true; done
  [ ! -e "$dir/kafka/kafka.pid" ] || broker/tests/tools/kafka.sh stop "$dir/kafka"
}

# As the suites' own set-ups of Kafka have it; librdkafka's leaves group.initial.rebalance.delay.ms at 3 seconds.
settings_of() { # SUITE
  settings=(num.partitions=4)
  [ "$1" = librdkafka ] || settings+=(group.min.session.timeout.ms=1000 group.initial.rebalance.delay.ms=0)
}

start_brokers() { # sets $brokers
  local default=127.0.0.1:$port one=127.0.0.1:$((port + 1)) noauto=127.0.0.1:$((port + 2))
  if [ -n "$kafka" ]; then
    # kafka.sh sets no delay; the last of two settings holds.
    broker/tests/tools/kafka.sh start "$port" "$dir/kafka" group.initial.rebalance.delay.ms=3000 "${settings[@]}" >/dev/null
    brokers=("default=$default" "one-shard=$default" "noautocreate=$default")
    return
  fi
  $millstream start "$port" "$dir/default" 2 "${settings[@]}"
  $millstream start $((port + 1)) "$dir/one-shard" 1 "${settings[@]}"
  $millstream start $((port + 2)) "$dir/noautocreate" 2 "${settings[@]}" auto.create.topics.enable=false
  brokers=("default=$default" "one-shard=$one" "noautocreate=$noauto")
}

[ -z "$build" ] || [ -n "$kafka" ] || $millstream build
status=0
for suite in "${suites[@]}"; do
  case $suite in
    kafka-python) fetch_kafka_python ;;
    librdkafka) fetch_librdkafka ;;
  esac
  [ -z "$fetch" ] || continue
  rm -rf "$dir"/{default,one-shard,noautocreate,kafka,logs}
  trap stop_brokers EXIT
  settings_of "$suite"
  start_brokers
  case $suite in
    kafka-python)
      "$python" broker/tests/suites/kafka_python.py --source "$sources" --brokers "${brokers[@]}" \
        --logs "$dir/logs" "${options[@]}" || status=1 ;;
    librdkafka)
      python3 broker/tests/suites/librdkafka.py --tests "$sources/tests" --brokers "${brokers[@]}" \
        --logs "$dir/logs" "${options[@]}" "${jobs[@]}" || status=1 ;;
  esac
  stop_brokers
done
exit $status
