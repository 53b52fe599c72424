#!/bin/bash
# Apache Kafka 4.x from Maven Central, for comparison and for its stock tools.
# Needs: default-jre-headless maven python3 (Debian). Everything lands in broker/tests/.cache/kafka.
#
#   kafka.sh fetch                                  downloads Kafka's jars once; quick when they are there
#   kafka.sh start PORT DATADIR [KEY=VALUE...]      one KRaft node in the background; waits until it serves; prints its pid
#   kafka.sh run   PORT DATADIR [KEY=VALUE...]      the same in the foreground (the java process replaces this one)
#   kafka.sh stop  DATADIR                          SIGTERM, then waits
#   kafka.sh tool  NAME ARGS...                     console-producer, console-consumer, producer-perf-test, topics, ...
#   kafka.sh class NAME                             the tool's main class
#   kafka.sh main  FILE.java ARGS...                compiles a program that uses Kafka's jars, once, and runs it
# DATADIR holds server.properties, server.out, kafka.pid and logs/ (Kafka's log.dirs).
# The controller listens on PORT + 1 (or $KAFKA_CONTROLLER_PORT). The heap is 1 GiB. A start is waited for as long as
# $KAFKA_START_SECONDS (90).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=4.4.0
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}/kafka
libs=$cache/$version

fail() { echo "kafka.sh: $*" >&2; exit 1; }

fetch() {
  [ -e "$libs/.complete" ] && return
  command -v java >/dev/null || fail "no java: apt-get install default-jre-headless"
  command -v mvn >/dev/null || fail "no mvn: apt-get install maven"
  mkdir -p "$cache/pom"
  cat >"$cache/pom/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millstream</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version></dependency>
    <!-- A Java compiler that runs on a plain JRE, for clients/Client.java. -->
    <dependency><groupId>org.eclipse.jdt</groupId><artifactId>ecj</artifactId><version>3.36.0</version></dependency>
  </dependencies>
</project>
XML
  rm -rf "$libs"
  mvn -q -B -f "$cache/pom/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DoutputDirectory="$libs" -DincludeScope=runtime >"$cache/fetch.log" 2>&1 \
    || { tail -20 "$cache/fetch.log" >&2; fail "Maven could not fetch Kafka $version"; }
  cat >"$libs/log4j2.properties" <<'LOG'
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = ${sys:millstream.log.level:-warn}
rootLogger.appenderRef.console.ref = console
LOG
  touch "$libs/.complete"
}

# Small, quick-starting JVM options; the tools live for seconds.
java_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dlog4j2.configurationFile="$libs/log4j2.properties")

properties() { # PORT DATADIR KEY=VALUE... -> DATADIR/server.properties
  local port=$1 data=$2; shift 2
  local controller=${KAFKA_CONTROLLER_PORT:-$((port + 1))}
  mkdir -p "$data/logs"
  {
    echo "process.roles=broker,controller"
    echo "node.id=1"
    echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
    echo "controller.listener.names=CONTROLLER"
    echo "controller.quorum.voters=1@127.0.0.1:$controller"
    echo "log.dirs=$data/logs"
    echo "offsets.topic.replication.factor=1"
    echo "transaction.state.log.replication.factor=1"
    echo "transaction.state.log.min.isr=1"
    echo "share.coordinator.state.topic.replication.factor=1"
    echo "share.coordinator.state.topic.min.isr=1"
    echo "group.initial.rebalance.delay.ms=0"
    local setting; for setting in "$@"; do echo "$setting"; done
  } >"$data/server.properties"
  [ -e "$data/logs/meta.properties" ] || java "${java_options[@]}" -cp "$libs/*" kafka.tools.StorageTool format \
    --cluster-id bWlsbHN0cmVhbS10ZXN0cw --config "$data/server.properties" >"$data/format.out" 2>&1 \
    || { cat "$data/format.out" >&2; fail "could not format $data"; }
}

run() {
  [ $# -ge 2 ] || fail "run PORT DATADIR [KEY=VALUE...]"
  fetch
  properties "$@"
  exec java -Xms256m -Xmx1g -XX:+UseG1GC -XX:-UsePerfData -Dlog4j2.configurationFile="$libs/log4j2.properties" \
    -Dmillstream.log.level="${KAFKA_LOG_LEVEL:-warn}" -cp "$libs/*" kafka.Kafka "$2/server.properties"
}

start() {
  [ $# -ge 2 ] || fail "start PORT DATADIR [KEY=VALUE...]"
  fetch
  local port=$1 data; mkdir -p "$2"; data=$(cd "$2" && pwd); shift 2
  setsid "$here/kafka.sh" run "$port" "$data" "$@" >"$data/server.out" 2>&1 </dev/null &
  local pid=$!
  echo $pid >"$data/kafka.pid"
  python3 "$here/rawkafka.py" --brokers "127.0.0.1:$port" ready --timeout "${KAFKA_START_SECONDS:-90}" \
    || { tail -20 "$data/server.out" >&2; kill -9 $pid 2>/dev/null; fail "Kafka did not start, see $data/server.out"; }
  kill -0 $pid 2>/dev/null || { tail -20 "$data/server.out" >&2; fail "something else serves port $port; Kafka has ended"; }
  echo $pid
}

stop() {
  local data=${1:?stop DATADIR} pid
  [ -e "$data/kafka.pid" ] || fail "no $data/kafka.pid"
  pid=$(cat "$data/kafka.pid")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || { rm -f "$data/kafka.pid"; return; }; sleep 0.1; done
  fail "Kafka (pid $pid) is still there after 30 s"
}

class_of() { # NAME, as in bin/kafka-NAME.sh -> its main class
  local name=$1 candidates
  case $name in
    console-producer) candidates=org.apache.kafka.tools.ConsoleProducer ;;
    console-consumer) candidates=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    producer-perf-test) candidates=org.apache.kafka.tools.ProducerPerformance ;;
    consumer-perf-test) candidates=org.apache.kafka.tools.ConsumerPerformance ;;
    consumer-groups) candidates="org.apache.kafka.tools.consumer.group.ConsumerGroupCommand org.apache.kafka.tools.group.ConsumerGroupCommand" ;;
    delete-records) candidates=org.apache.kafka.tools.DeleteRecordsCommand ;;
    log-dirs) candidates=org.apache.kafka.tools.LogDirsCommand ;;
    cluster) candidates=org.apache.kafka.tools.ClusterTool ;;
    verifiable-producer) candidates=org.apache.kafka.tools.VerifiableProducer ;;
    verifiable-consumer) candidates=org.apache.kafka.tools.VerifiableConsumer ;;
    get-offsets) candidates=org.apache.kafka.tools.GetOffsetShell ;;
    topics) candidates=org.apache.kafka.tools.TopicCommand ;;
    configs) candidates="org.apache.kafka.tools.ConfigCommand kafka.admin.ConfigCommand" ;;
    broker-api-versions) candidates=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
    dump-log-segments) candidates="org.apache.kafka.tools.DumpLogSegments kafka.tools.DumpLogSegments" ;;
    storage) candidates=kafka.tools.StorageTool ;;
    *) candidates=$name ;;
  esac
  local class jar path
  for class in $candidates; do
    path=${class//./\/}.class
    for jar in "$libs"/kafka*.jar; do
      # The names in a jar's directory are stored plainly.
      grep -qaF "$path" "$jar" && { echo "$class"; return; }
    done
  done
  fail "Kafka $version has no tool $name"
}

tool() {
  local name=${1:?tool NAME ARGS...} class; shift
  fetch
  class=$(class_of "$name")
  exec java "${java_options[@]}" -Xmx512m -cp "$libs/*" "$class" "$@"
}

main() { # FILE.java ARGS...
  local source=${1:?main FILE.java ARGS...} name classes; shift
  fetch
  name=$(basename "$source" .java)
  classes=$cache/../java-classes
  if [ ! -e "$classes/$name.class" ] || [ "$source" -nt "$classes/$name.class" ]; then
    # Several may come at once: what runs must not see a class that is half written.
    mkdir -p "$classes" "$classes.$$"
    java -cp "$libs/*" org.eclipse.jdt.internal.compiler.batch.Main -17 -nowarn -d "$classes.$$" \
      -cp "$(printf '%s:' "$libs"/*.jar)" "$source"
    find "$classes.$$" -name "$name.class" -prune -o -type f -exec mv -f {} "$classes" \;
    mv -f "$classes.$$/$name.class" "$classes"
    rm -r "$classes.$$"
  fi
  exec java "${java_options[@]}" -Xmx512m -cp "$libs/*:$classes" "$name" "$@"
}

command=${1:-}; [ $# -gt 0 ] && shift
case $command in
  fetch) fetch ;;
  start | run | stop | tool | main) "$command" "$@" ;;
  class) fetch; class_of "$1" ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
