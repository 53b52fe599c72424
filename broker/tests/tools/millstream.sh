#!/bin/bash
# Our broker in the background, for the scripts of broker/tests.
#
#   millstream.sh build                                    cargo build --release --workspace
#   millstream.sh start PORT DIR SHARDS [KEY=VALUE...]     waits until it serves
#   millstream.sh stop DIR [SIGNAL]                        TERM by default; waits for its end
#   millstream.sh restart DIR [SIGNAL [SHARDS]]            on the same port, with the same settings
# DIR holds data/, the broker's output in out and err, and what it was started with. With MILLSTREAM_DATA_DIRS the log is there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../../.."
program=${CARGO_TARGET_DIR:-target}/release/millstream

fail() { echo "millstream.sh: $*" >&2; exit 1; }

launch() { # DIR
  # No metrics unless asked for: brokers of several proofs would want the same port.
  local dir=$1 pid settings=(--set admin.listen=)
  . "$dir/command"
  for setting in $configs; do settings+=(--set "$setting"); done
  : >"$dir/out"
  setsid "$program" start --port "$port" --data-dir "$directories" --shards "$shards" "${settings[@]}" \
    >"$dir/out" 2>>"$dir/err" </dev/null &
  pid=$!
  echo "$pid" >"$dir/pid"
  for _ in $(seq 600); do
    grep -q '^millstream ready' "$dir/out" && return
    kill -0 "$pid" 2>/dev/null || { tail -5 "$dir/err" >&2; fail "the broker ended"; }
    sleep 0.05
  done
  fail "the broker is not ready after 30 s"
}

stop() { # DIR SIGNAL
  local pid; pid=$(cat "$1/pid")
  kill "-$2" "$pid" 2>/dev/null || fail "no broker runs in $1"
  for _ in $(seq 1200); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.05; done
  fail "the broker $pid does not end"
}

case ${1:-} in
  build) exec cargo build --release --quiet --workspace ;;
  start)
    mkdir -p "$3"
    printf 'port=%q shards=%q configs=%q directories=%q\n' "$2" "$4" "${*:5}" "${MILLSTREAM_DATA_DIRS:-$3/data}" >"$3/command"
    launch "$3" ;;
  stop) stop "$2" "${3:-TERM}" ;;
  restart)
    stop "$2" "${3:-TERM}"
    [ -z "${4:-}" ] || sed -i "s/shards=[0-9]*/shards=$4/" "$2/command"
    launch "$2" ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
