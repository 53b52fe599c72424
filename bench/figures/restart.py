#!/usr/bin/env python3
"""How long a start takes after the process was killed while it wrote, with cold caches: against the size of the log, and of the journal.

Logs of two sizes, with as many partitions; before each start producers of small batches fill the journal, and the broker is killed
(SIGKILL) under them. A start must take at most a second and the time that half the disk's rate needs for what the journal held.
With --kafka 1, Apache Kafka with its defaults, killed and started on as much data. Needs: cargo build --release -p millstream
-p millstream-bench, python3, root to empty the page cache; for Kafka default-jre-headless and maven.
"""
import os
import signal
import statistics
import time

import scene
from scene import MIB, begin, bench, say


def main():
    options = scene.arguments(__doc__, rounds=5, small_gb=2.0, large_gb=20.0, partitions=4000, seconds=4, kafka=0,
                              short={"rounds": 1, "small_gb": 0.05, "large_gb": 0.2, "partitions": 40, "seconds": 1})
    figures = scene.Figures()
    limits = []
    whole = options.data / "whole"  # for the disk's rate: a log's own files may be small
    whole.write_bytes(os.urandom(MIB) * (64 if options.short else 1024))
    brokers = {f"Millstream, {gigabytes:g} GB": scene.Millstream(options.data / f"millstream-{gigabytes:g}")
               for gigabytes in (options.small_gb, options.large_gb)}
    small, large = brokers
    for line, gigabytes in ((small, options.small_gb), (large, options.large_gb)):
        brokers[line].start()
        fill(brokers[line], brokers[line].directory / "data", gigabytes, options)
        brokers[line].stop()
    for number in range(options.rounds):
        for line in (small, large) if number % 2 == 0 else (large, small):
            say(f"{line}, round {number + 1} of {options.rounds}")
            broker = brokers[line]
            broker.start()
            used = kill_under_load(broker, options)
            rate = scene.read_alone([whole], 1)
            cold()
            seconds = broker.start()
            limits.append(seconds / (1 + used / 1e6 / (rate / 2)))
            figures.add(line, **{"start s": seconds, "journal MB": used / 1e6, "disk MB/s": rate})
            broker.stop()
    if options.kafka:
        kafka(options, figures)
    print(f"Medians of {options.rounds} starts (lowest-highest); {options.partitions} partitions, one shard.\n")
    figures.table("log", ["start s", "journal MB", "disk MB/s"])
    asked = scene.Asked()
    asked.at_most("a start against a second and the journal at half the disk's rate", limits, 1)
    asked.at_most(f"{options.large_gb:g} GB against {options.small_gb:g} GB", figures.ratio("start s", large, small), 1.1)
    if options.kafka:
        theirs = statistics.median(figures.of("Kafka", "start s"))
        print(f"- Kafka takes {theirs / statistics.median(figures.of(large, 'start s')):.1f} times as long")
    asked.end(options)


def fill(broker, logs, gigabytes, options):
    say(f"writing {gigabytes:g} GB")
    size = lambda: sum(path.stat().st_blocks * 512 for path in logs.glob("log-*/*.log"))
    while size() < gigabytes * 1e9:
        bench("produce", broker, "log", partitions=options.partitions, connections=4, in_flight=16, batch_size=65536,
              seconds=2, warmup_seconds=0)


def kill_under_load(broker, options):
    """How many bytes of the journal were in use when it was killed."""
    producing = begin("produce", broker, "log", partitions=options.partitions, connections=4, in_flight=64, batch_size=1000,
                      record_size=100, seconds=60, warmup_seconds=0)
    time.sleep(options.seconds)
    used = broker.metrics()["millstream_journal_used_bytes"]
    broker.stop(signal.SIGKILL)
    producing.kill()
    producing.wait()
    return used


def cold():
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")


def kafka(options, figures):
    broker = scene.Kafka(options.data / "kafka")
    broker.start()
    fill(broker, broker.directory / "logs", options.large_gb, options)
    for _ in range(options.rounds):
        bench("produce", broker, "log", partitions=options.partitions, connections=4, in_flight=64, batch_size=1000,
              record_size=100, seconds=options.seconds, warmup_seconds=0)
        broker.stop(signal.SIGKILL)
        cold()
        figures.add("Kafka", **{"start s": broker.start()})
    broker.stop()


if __name__ == "__main__":
    main()
