#!/usr/bin/env python3
"""Makes the table of first-figure.sh from its results.

  figure_table.py RESULTS.jsonl

Medians over the rounds, with the lowest and the highest in brackets where they matter. Needs only the standard library.
"""
import json
import re
import statistics
import sys

SYSTEMS = {
    "millstream": "Millstream, defaults (flushed before the ack)",
    "kafka-flush": "Kafka, `log.flush.interval.messages=1`",
    "kafka-default": "Kafka, defaults (not flushed)",
}


def main():
    with open(sys.argv[1]) as file:
        rows = [json.loads(line) for line in file]
    runs = [row for row in rows if row["system"] != "fio"]
    disk = [row for row in rows if row["system"] == "fio"]
    batches = sorted({int(row["batch"]) for row in runs})
    rates = sorted({row["settings"]["rate"] for row in runs if row["pace"] == "paced"})
    rounds = len({row["round"] for row in runs})
    rate = " and ".join(f"{rate:,}" for rate in rates)
    print(f"Medians of {rounds} interleaved rounds (lowest-highest). 6 partitions, 6 connections with 5 requests in")
    print("flight each, acks=all, records of 1,024 bytes. Latencies in ms, of a request with one batch.\n")
    print("| batch | broker | MB/s, flat out | p50 | p99 | broker CPU s/GB | bench CPU s/GB "
          f"| p50 at {rate} records/s | p99 | kept |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for batch in batches:
        for system, name in SYSTEMS.items():
            flat = pick(runs, system, batch, "flat-out")
            paced = pick(runs, system, batch, "paced")
            if not flat or not paced:
                continue
            kept = [100 * row["records_per_s"] / row["settings"]["rate"] for row in paced]
            print(f"| {batch // 1024} KiB | {name} | {spread([row['mb_per_s'] for row in flat], 1)} "
                  f"| {latency(flat, 'p50')} | {latency(flat, 'p99')} "
                  f"| {spread([row['server_cpu']['seconds_per_gb'] for row in flat], 2)} "
                  f"| {statistics.median(row['bench_cpu']['seconds_per_gb'] for row in flat):.2f} "
                  f"| {latency(paced, 'p50')} | {latency(paced, 'p99')} | {statistics.median(kept):.0f} % |")
    ratios(runs, batches)
    if disk:
        fio(disk)
    notes = {}
    for row in runs:
        for warning in row["warnings"]:
            if "rate was not kept" not in warning:
                # Those that differ only in their figures are one note.
                notes.setdefault(re.sub(r"[\d.]+", "#", warning), []).append(warning)
    for warnings in notes.values():
        print(f"\nNote, of {len(warnings)} of {len(runs)} runs: {warnings[0]}")


def ratios(runs, batches):
    lines = []
    for batch in batches:
        for other in ("kafka-flush", "kafka-default"):
            pairs = by_round(runs, batch, "millstream", other)
            if pairs:
                speed = [ours["mb_per_s"] / theirs["mb_per_s"] for ours, theirs in pairs]
                cost = [theirs["server_cpu"]["seconds_per_gb"] / ours["server_cpu"]["seconds_per_gb"]
                        for ours, theirs in pairs]
                lines.append(f"| {batch // 1024} KiB | {SYSTEMS[other]} | {spread(speed, 2)} | {spread(cost, 2)} |")
    if lines:
        print("\nMillstream against Kafka, each round's pair, flat out: above 1 is better.\n")
        print("| batch | against | MB/s: ours / theirs | CPU s/GB: theirs / ours |\n|---|---|---|---|")
        print("\n".join(lines))


def fio(disk):
    print("\nThe disk alone (fio: one writer, O_DIRECT overwrites, each durable before the next):\n")
    print("| write | flush | MB/s | commits/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for mode in ("dsync", "fdatasync"):
        for block in sorted({row["block_bytes"] for row in disk}):
            rows = [row for row in disk if (row["mode"], row["block_bytes"]) == (mode, block)]
            if rows:
                commit = {at: [(row[f"{at}_us"] + row.get(f"write_{at}_us", 0)) / 1e3 for row in rows]
                          for at in ("p50", "p99")}
                print(f"| {block // 1024} KiB | {mode} | {spread([row['mb_per_s'] for row in rows], 1)} "
                      f"| {statistics.median(row['commits_per_s'] for row in rows):.0f} "
                      f"| {statistics.median(commit['p50']):.2f} | {statistics.median(commit['p99']):.2f} |")
    print("\nWith fdatasync, p50 and p99 are the sums of the write's and the flush's.")


def by_round(runs, batch, ours, theirs):
    def rows(system):
        return {row["round"]: row for row in pick(runs, system, batch, "flat-out")}
    mine, other = rows(ours), rows(theirs)
    return [(mine[round], other[round]) for round in mine if round in other]


def pick(runs, system, batch, pace):
    return [row for row in runs
            if (row["system"], int(row["batch"]), row["pace"]) == (system, batch, pace)]


def latency(rows, quantile):
    known = [row["latency_us"][quantile] / 1e3 for row in rows if quantile in row["latency_us"]]
    # Of a broker that falls behind the rate by more than the run, no request of the measured time is answered.
    return spread(known, 2) if known else "none"


def spread(values, digits):
    median = f"{statistics.median(values):.{digits}f}"
    return median if len(values) < 2 else f"{median} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
