#!/bin/bash
# Real text through real clients: every client with every codec, byte-identical and in order for each partition.
#
#   run.sh --brokers HOST:PORT [--lines N] [--clients LIST] [--codecs LIST] [--tools-codecs LIST]
#          [--restart-command CMD] [--keep]
#
# --lines            1000000 by default; 20000 is the short form
# --clients          any of kcat,java,java-tools,kafka-python,confluent
# --codecs           any of none,gzip,snappy,lz4,zstd; "-" for none of them (with --restart-command only)
# --tools-codecs     those of java-tools, which take four times as long as others; by default the same
# --restart-command  also keeps a producer and a consumer of each client alive while CMD restarts the broker
# --keep             leaves topics and files in place
# Prints a table; ends with 0 only if every line of it says ok. Each failure's output is printed, and stays
# in broker/tests/.cache/clients. Needs (Debian): kcat default-jre-headless maven python3-venv man-db wamerican.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/../tools
cache=${MILLSTREAM_TEST_CACHE:-$here/../.cache}
mkdir -p "$cache"; cache=$(cd "$cache" && pwd)
export MILLSTREAM_TEST_CACHE=$cache
brokers=${MILLSTREAM_BROKERS:-127.0.0.1:9092} lines=1000000 clients=kcat,java,java-tools,kafka-python,confluent
codecs=none,gzip,snappy,lz4,zstd tools_codecs= restart_command= keep=
while [ $# -gt 0 ]; do
  case $1 in
    --brokers) brokers=$2; shift 2 ;;
    --lines) lines=$2; shift 2 ;;
    --clients) clients=$2; shift 2 ;;
    --codecs) codecs=$2; shift 2 ;;
    --tools-codecs) tools_codecs=$2; shift 2 ;;
    --restart-command) restart_command=$2; shift 2 ;;
    --keep) keep=1; shift ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done

# The command line of a client, in the array `program`.
program_of() {
  case $1 in
    kcat) program=("$here/kcat.sh") ;;
    java) program=("$here/java.sh") ;;
    java-tools) program=("$here/java_tools.sh") ;;
    kafka-python) program=("$python" "$here/kafka_python_client.py") ;;
    confluent) program=("$python" "$here/confluent_client.py") ;;
    *) echo "run.sh: unknown client $1" >&2; exit 2 ;;
  esac
}

raw() { python3 "$tools/rawkafka.py" --brokers "$brokers" "$@"; }

roundtrip() { # CLIENT CODEC TOPIC OUT; output tells why it failed
  local client=$1 codec=$2 topic=$3 out=$4 part
  program_of "$client"
  if [ "$client" != java-tools ]; then raw create "$topic" 6 || return; fi
  "${program[@]}" roundtrip "$brokers" "$topic" "$codec" "$corpus" "$out" </dev/null || return
  if [ "$client" != java-tools ]; then
    for part in 0 1 2 3 4 5; do cmp "$corpus/part-$part.txt" "$out/part-$part.txt" || return; done
  fi
  raw check "$topic" --codec "$codec" --count "$lines"
}

case ,$clients, in *,kafka-python,* | *,confluent,*) python=$("$here/venv.sh") || exit 1 ;; esac
case ,$clients, in *,java,* | *,java-tools,*) "$tools/kafka.sh" fetch || exit 1 ;; esac
corpus=$cache/corpus-$lines
[ "$codecs" = - ] || python3 "$here/corpus.py" "$corpus" --lines "$lines" || exit 1
raw ready || exit 1

work=$cache/clients; rm -rf "$work"; mkdir -p "$work"
run=$(date +%s)
failed=0
row() { printf '%-13s %-8s %-7s %5s s  %s\n' "$@"; }
report() { # CLIENT WHAT LOG SECONDS STATUS
  if [ "$5" = 0 ]; then
    row "$1" "$2" ok "$4" "$(tail -1 "$3")"
  else
    row "$1" "$2" FAILED "$4" "see $3"
    tail -15 "$3" | sed 's/^/    /'
    failed=$((failed + 1))
  fi
}
printf '%s lines of text to %s\n' "$lines" "$brokers"
for client in ${clients//,/ }; do
  its_codecs=$codecs
  [ "$client" != java-tools ] || its_codecs=${tools_codecs:-$codecs}
  for codec in $([ "$codecs" = - ] || echo "${its_codecs//,/ }"); do
    topic=$client-$codec-$run out=$work/$client-$codec; mkdir -p "$out"
    begin=$SECONDS
    roundtrip "$client" "$codec" "$topic" "$out" >"$out.log" 2>&1
    status=$?
    report "$client" "$codec" "$out.log" $((SECONDS - begin)) $status
    if [ -z "$keep" ]; then
      [ $status != 0 ] || rm -rf "$out"
      raw delete "$topic" >/dev/null 2>&1
      [ "$client" != java-tools ] || raw delete "$topic-perf" >/dev/null 2>&1
    fi
  done
  if [ -n "$restart_command" ] && [ "$client" != java-tools ]; then
    program_of "$client"
    topic=$client-restart-$run out=$work/$client-restart
    begin=$SECONDS
    { raw create "$topic" 6 && python3 "$here/live.py" restart --brokers "$brokers" --topic "$topic" --dir "$out" \
        --restart-command "$restart_command" -- "${program[@]}"; } >"$out.log" 2>&1
    status=$?
    [ $status = 0 ] || tail -n 5 "$out"/*.err >>"$out.log" 2>/dev/null
    report "$client" restart "$out.log" $((SECONDS - begin)) $status
  fi
done
[ $failed = 0 ] || { echo "$failed failed"; exit 1; }
echo "all ok"
