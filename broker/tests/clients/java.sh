#!/bin/bash
# The Java client of Apache Kafka 4.x. Commands: see live.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=$("$here/../tools/kafka.sh" classpath)
classes=${MILLSTREAM_TEST_CACHE:-$here/../.cache}/java-classes
if [ ! -e "$classes/Client.class" ] || [ "$here/Client.java" -nt "$classes/Client.class" ]; then
  mkdir -p "$classes"
  java -cp "$libs" org.eclipse.jdt.internal.compiler.batch.Main -17 -nowarn -d "$classes" \
    -cp "$(printf '%s:' "${libs%/\*}"/*.jar)" "$here/Client.java"
fi
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xmx512m \
  -Dlog4j2.configurationFile="${libs%/\*}/log4j2.properties" -cp "$libs:$classes" Client "$@"
