#!/bin/bash
# What the disk gives for our commit pattern: O_DIRECT overwrites of a file that is already written, each durable
# before the next begins. One JSON object a line:
#   {"mode":"dsync","block_bytes":16384,"mb_per_s":..,"commits_per_s":..,"p50_us":..,"p99_us":..}
# mode dsync: each write carries O_DSYNC; p50 and p99 are of the whole commit.
# mode fdatasync: a write, then fdatasync; p50 and p99 are the flush's, write_p50_us and write_p99_us the write's.
#   fio-flush.sh DIRECTORY [--seconds N] [--size-mb N]          needs: fio python3
set -euo pipefail
directory=${1:?fio-flush.sh DIRECTORY [--seconds N] [--size-mb N]}; shift
seconds=5 size_mb=256
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2; shift 2 ;;
    --size-mb) size_mb=$2; shift 2 ;;
    *) echo "fio-flush.sh: unknown option $1" >&2; exit 2 ;;
  esac
done
command -v fio >/dev/null || { echo "fio-flush.sh: apt-get install fio" >&2; exit 1; }
mkdir -p "$directory"
file=$directory/fio-flush.dat
trap 'rm -f "$file"' EXIT
# Written once, so that the runs overwrite: no block is allocated and no extent converted while we measure.
dd if=/dev/urandom of="$file" bs=1M count="$size_mb" oflag=direct conv=fsync status=none
for mode in dsync fdatasync; do
  for block in 16k 64k 256k 1m; do
    flush=--sync=dsync; [ $mode = dsync ] || flush=--fdatasync=1
    fio --name=commit --filename="$file" --size="${size_mb}m" --overwrite=1 --rw=write --bs=$block --direct=1 \
        --ioengine=psync --time_based --runtime="$seconds" $flush --output-format=json 2>/dev/null |
      python3 -c '
import json, sys
mode, job = sys.argv[1], json.load(sys.stdin)["jobs"][0]
write, sync = job["write"], job["sync"]
at = lambda latencies, percent: round(latencies["percentile"][percent] / 1000, 1)
p50, p99 = "50.000000", "99.000000"
row = {"mode": mode, "block_bytes": int(sys.argv[2]), "mb_per_s": round(write["bw_bytes"] / 1e6, 1),
       "commits_per_s": round(write["iops"])}
last = write["clat_ns"] if mode == "dsync" else sync["lat_ns"]
row |= {"p50_us": at(last, p50), "p99_us": at(last, p99)}
if mode == "fdatasync":
    row |= {"write_p50_us": at(write["clat_ns"], p50), "write_p99_us": at(write["clat_ns"], p99)}
print(json.dumps(row), flush=True)' "$mode" "$(numfmt --from=iec "${block^^}")"
  done
done
