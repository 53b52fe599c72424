#!/bin/bash
# Kafka's own DumpLogSegments reads every segment and index of a directory that was stopped with SIGTERM, without
# complaint, and finds in it what should be there: every offset of every partition once, one after the other.
#
#   dump.sh DATADIR
# With MILLSTREAM=BINARY, `millstream log dump` has to see the same batches.
# Needs (Debian): default-jre-headless maven.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "${1:?dump.sh DATADIR}" && pwd)
out=$(mktemp -d); trap 'rm -rf "$out"' EXIT
fail() { echo "dump.sh: $*" >&2; exit 1; }

# Kafka 4.4's tool says of every segment but a log's first one, its own too, that the segment's offset follows -1.
excuse() {
  awk '
    /^Non-consecutive offsets in / { held = $0; base = $NF; sub("^.*/0*", "", base); sub("[.]log$", "", base); next }
    held != "" { if ($0 !~ "^  -1 is followed by " base "$") print held "\n" $0; held = ""; next }
    { print }' "$out/errors" >"$out/rest"
  mv "$out/rest" "$out/errors"
}

dump() { # FILES OPTION...; the tool tells of what it does not like on either output
  local files=$1; shift
  "$here/tools/kafka.sh" tool dump-log-segments "$@" --files "$(paste -sd, "$files")" >"$out/dump" 2>"$out/errors" ||
    fail "$*: $(tail -3 "$out/errors")"
  excuse
  grep -vE '^(SLF4J|Picked up|WARNING)' "$out/errors" && fail "$*: it complains"
  grep -iE 'mismatch|non-consecutive|invalid|corrupt|exception|isvalid: false|could not find|out of order' "$out/dump" &&
    fail "$*: it complains"
  [ "$(grep -c '^Dumping ' "$out/dump")" = "$(wc -l <"$files")" ] || fail "$*: it left files out"
}

find "$data" -mindepth 2 -maxdepth 2 -path '*-[0-9]*/*' -name '*.log' | sort >"$out/logs"
find "$data" -mindepth 2 -maxdepth 2 -path '*-[0-9]*/*' -name '*index' -size +0 | sort >"$out/indexes"
[ -s "$out/logs" ] || fail "no segments in $data"
dump "$out/logs" --deep-iteration
counts=$(awk '
  function wrong(what) { print "dump.sh: " partition ": " what > "/dev/stderr"; failed = 1; exit 1 }
  /^Dumping / {
    directory = $2; sub("/[^/]*$", "", directory)
    if (directory == partition) sealed++
    else { partition = directory; next_batch = next_record = 0; partitions++ }
    segments++
  }
  /^Log starting offset: / && $4 != next_batch { wrong("a segment begins at " $4 ", expected " next_batch) }
  /^baseOffset: / {
    if ($2 != next_batch || next_record != next_batch) wrong("a batch at " $2 ", expected " next_record)
    next_batch = $4 + 1
  }
  /^\| offset: / {
    if ($3 != next_record) wrong("a record at " $3 ", expected " next_record)
    next_record++; records++
  }
  END {
    if (failed) exit 1
    print segments " segments of " partitions " partitions (" sealed + 0 " sealed), " records + 0 " records"
  }' "$out/dump")
# Our own dump sees the same batches: file, offsets, place, size, CRC.
if [ -n "${MILLSTREAM:-}" ]; then
  awk '/^Dumping / { file = $2 }
    /^baseOffset: / { for (at = 1; at < NF; at++) field[$at] = $(at + 1)
      print file, field["baseOffset:"], field["lastOffset:"], field["position:"], field["size:"], field["crc:"] }' "$out/dump" >"$out/theirs"
  xargs -d '\n' "$MILLSTREAM" log dump --output json <"$out/logs" >"$out/ours.json" || fail "millstream log dump"
  python3 - "$out/ours.json" >"$out/ours" <<'EOF'
import json, sys
for line in open(sys.argv[1]):
    fact = json.loads(line)
    if fact["type"] == "file":
        file = fact["path"]
    else:
        if fact["type"] != "batch" or not fact["is_crc_right"]:
            sys.exit(f"{file}: {fact}")
        print(file, fact["base_offset"], fact["last_offset"], fact["position"], fact["bytes"], int(fact["crc"], 16))
EOF
  diff "$out/theirs" "$out/ours" >&2 || fail "millstream log dump and Kafka's tool see other batches"
  counts+=", $(wc -l <"$out/ours") batches as millstream log dump sees them"
fi
if [ -s "$out/indexes" ]; then
  dump "$out/indexes" --index-sanity-check
  dump "$out/indexes" --verify-index-only
fi
echo "$counts, $(wc -l <"$out/indexes") indexes: no complaint"
