#!/usr/bin/env python3
"""What an acknowledgement costs against the number of partitions.

One shard, acks=all with a flush, batches of one record of 100 bytes, the same number in flight on one connection, spread over
so many partitions; each run on a new directory, where a lap of the journal has been written before so that all partitions have
their files, and for as many laps as are asked for, longer than the seconds if need be: what is written to segments later is paid for. With --kafka 1, Apache
Kafka with a flush on every message beside it.
Needs: cargo build --release -p millstream -p millstream-bench, python3; for Kafka default-jre-headless and maven.
"""
import shutil
import threading
import time

import scene
from scene import MIB, bench, say

KAFKA_PARTITIONS_MAX = 1_000


def main():
    options = scene.arguments(__doc__, rounds=3, seconds=40, laps=5.0, in_flight=256, journal_mib=512, partitions="1,10,100,1000,10000",
                              kafka=0, short={"rounds": 1, "seconds": 1, "laps": 0.0, "journal_mib": 64, "partitions": "1,100"})
    counts = [int(count) for count in options.partitions.split(",")]
    figures = scene.Figures()
    for number in range(options.rounds):
        for count in counts if number % 2 == 0 else reversed(counts):
            say(f"round {number + 1} of {options.rounds}, {count} partitions")
            ours(count, options, figures)
            if options.kafka and count <= KAFKA_PARTITIONS_MAX:
                kafka(count, options, figures)
    lines = [line for count in counts for line in (name(count), "Kafka, " + name(count))]
    figures.values = {line: figures.values[line] for line in lines if line in figures.values}
    print(f"Medians of {options.rounds} rounds (lowest-highest); one record of 100 bytes a batch, {options.in_flight} in flight, "
          f"acks=all; {options.seconds} s each at least; a journal of {options.journal_mib} MiB.\n")
    figures.table("partitions", ["acks/s", "p50 ms", "p99 ms", "CPU s/million", "laps", "lag MiB, then", "lag MiB, at last"])
    few, many = name(counts[0]), name(counts[-1])
    asked = scene.Asked()
    asked.at_least(f"acks/s, {many} against {few}", figures.ratio("acks/s", many, few), 0.7)
    asked.at_most(f"p99, {many} against {few}", figures.ratio("p99 ms", many, few), 2)
    asked.at_least("laps of the journal, the fewest", [min(lap for line in (few, many) for lap in figures.of(line, "laps"))],
                   options.laps)
    asked.end(options)


def name(count):
    return f"{count:,}"


def ours(count, options, figures):
    directory = options.data / "millstream"
    shutil.rmtree(directory, ignore_errors=True)
    journal_bytes = options.journal_mib * MIB
    broker = scene.Millstream(directory, **{"journal.bytes": journal_bytes})
    broker.start()
    before, begun = 0, time.monotonic()
    while before < min(options.laps, 1) * journal_bytes:
        load(broker, count, options, seconds=2)
        before = broker.metrics()["millstream_journal_written_bytes_total"]
    # With what a host that is slower for a while may need on top.
    lap_seconds = 1.3 * (time.monotonic() - begun) * journal_bytes / max(before, 1)
    seconds = max(options.seconds, round(options.laps * lap_seconds))
    lag, ended = [], threading.Event()
    watcher = threading.Thread(target=watch, args=(broker, lag, ended))
    watcher.start()
    report = load(broker, count, options, seconds=seconds)
    ended.set()
    watcher.join()
    laps = (broker.metrics()["millstream_journal_written_bytes_total"] - before) / journal_bytes
    half = len(lag) // 2
    add(figures, name(count), report)
    figures.add(name(count), **{"laps": laps, "lag MiB, then": max(lag[:half] or [0]), "lag MiB, at last": max(lag[half:] or [0])})
    broker.stop()


def watch(broker, lag, ended):
    while not ended.wait(0.5):
        lag.append(broker.metrics()["millstream_journal_unmigrated_bytes"] / MIB)


def kafka(count, options, figures):
    directory = options.data / "kafka"
    shutil.rmtree(directory, ignore_errors=True)
    broker = scene.Kafka(directory, **{"log.flush.interval.messages": 1})
    broker.start()
    load(broker, count, options, seconds=max(1, options.seconds // 3))  # a JVM compiles what runs often
    add(figures, "Kafka, " + name(count), load(broker, count, options, seconds=options.seconds))
    broker.stop()


def load(broker, count, options, seconds):
    return bench("produce", broker, "spread", partitions=count, connections=1, in_flight=options.in_flight, batch_size=1,
                 record_size=100, seconds=seconds, warmup_seconds=0)


def add(figures, line, report):
    figures.add(line, **{"acks/s": report["requests"] / report["seconds"], "p50 ms": report["latency_us"]["p50"] / 1e3,
                         "p99 ms": report["latency_us"]["p99"] / 1e3,
                         "CPU s/million": report["server_cpu"]["seconds_per_million_records"]})


if __name__ == "__main__":
    main()
