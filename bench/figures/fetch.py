#!/usr/bin/env python3
"""What a Fetch costs: of a backlog that is in memory, of the tail, and of a cold backlog beside producers.

Each round has, one after the other: our broker and a bare sendfile loop on as much cached data; our broker's tail and a bare
loop that sends memory; producers at a rate alone, and beside a consumer that reads a cold backlog; what the disk gives
a reader alone. With --kafka 1, Apache Kafka's cached backlog as well. Needs: cargo build --release -p millstream
-p millstream-bench, python3; for Kafka default-jre-headless and maven.
"""
import json
import subprocess
import sys

import scene
from scene import MIB, TARGET, bench, begin, finish, say

CACHED, TAIL, COLD = "a backlog in memory", "the tail", "a cold backlog, beside 20 MB/s produced"
SENDFILE, MEMORY = "a bare sendfile loop", "a bare send of memory"
KAFKA = "Kafka, a backlog in the page cache"
ALONE, BESIDE = "producers alone", "producers beside that consumer"
DISK = "the disk, to a reader alone"


def main():
    options = scene.arguments(__doc__, rounds=5, seconds=4, cold_gb=10.0, cached_mb=32, kafka=0,
                              short={"rounds": 1, "seconds": 1, "cold_gb": 0.2, "cached_mb": 32})
    broker = scene.Millstream(options.data / "millstream")
    say(f"writing {options.cold_gb} GB")
    broker.start()
    load(broker, "cached", options.cached_mb)
    fill(broker, options)
    kafka = scene.Kafka(options.data / "kafka") if options.kafka else None
    if kafka:
        kafka.start()
        load(kafka, "cached", options.cached_mb)
    figures = scene.Figures()
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        rounds(broker, kafka, options, figures)
    broker.stop()
    if kafka:
        kafka.stop()
    print(f"Medians of {options.rounds} rounds (lowest-highest); one shard; 6 partitions, batches of 64 KiB.\n")
    figures.table("what", ["MB/s", "CPU s/GB", "p50 ms", "p99 ms"])
    asked = scene.Asked()
    asked.at_most("CPU per GB, a backlog in memory against a bare sendfile loop",
                  figures.ratio("CPU s/GB", CACHED, SENDFILE), 1.3)
    asked.at_most("CPU per GB, the tail against a bare send of memory", figures.ratio("CPU s/GB", TAIL, MEMORY), 1.3)
    asked.at_least("MB/s of a cold backlog beside producers, against the disk alone", figures.ratio("MB/s", COLD, DISK), 0.25)
    asked.at_most("p99 of producers beside that consumer, against alone", figures.ratio("p99 ms", BESIDE, ALONE), 2)
    print("\nThe last round, second by second: MB/s of the consumer, p99 in ms of the producers beside it, and alone.\n")
    for name, values in figures.curves.items():
        print(f"- {name}: " + " ".join(f"{value:g}" for value in values))
    if kafka:
        asked.at_most("CPU per GB, a backlog in memory, against Kafka", figures.ratio("CPU s/GB", CACHED, KAFKA), 1)
    asked.end(options)


def rounds(broker, kafka, options, figures):
    broker.restart()  # the tail is empty after it: the backlog is read from its segments
    consume = {"at_end": "restart", "seconds": options.seconds, "warmup_seconds": 1, "connections": 2}
    before = broker.metrics().get("millstream_segment_read_bytes_total", 0)
    report = bench("consume", broker, "cached", **consume)
    read = broker.metrics()["millstream_segment_read_bytes_total"] - before
    # The last batch of a segment that is still written to is read each time.
    if read > 0.15 * report["bytes"] + options.cached_mb * 1e6:
        scene.fail(f"{read / 1e6:.0f} MB were read from the disk: the backlog was not in memory")
    add(figures, CACHED, report)
    file = options.data / "bare"
    file.write_bytes(bytes(options.cached_mb * MIB))
    bare(figures, SENDFILE, "sendfile", file, options.seconds)
    if kafka:
        add(figures, KAFKA, bench("consume", kafka, "cached", **consume))
    load(broker, "tail", options.cached_mb)
    add(figures, TAIL, bench("consume", broker, "tail", **consume))
    scene.delete(broker, "tail")
    bare(figures, MEMORY, "memory", options.cached_mb, options.seconds)
    produce = {"partitions": 6, "connections": 6, "batch_size": 16384, "rate": 20_000, "warmup_seconds": 1}
    for beside in (False, True):
        scene.settle(options.data)
        producing = begin("produce", broker, "paced", seconds=options.seconds, **produce)
        if beside:
            report = bench("consume", broker, "cold", connections=2, seconds=options.seconds, at_end="restart")
            add(figures, COLD, report)
            figures.curves[COLD] = [rate for rate, _ in report["curve"]]
        report = finish(producing)
        figures.curves[BESIDE if beside else ALONE] = [p99 for _, p99 in report["curve"]]
        latency = report["latency_us"]
        figures.add(BESIDE if beside else ALONE, **{"MB/s": report["mb_per_s"], "p50 ms": latency["p50"] / 1e3,
                                                    "p99 ms": latency["p99"] / 1e3})
        scene.delete(broker, "paced")
    segments = sorted((options.data / "millstream" / "data").glob("cold-*/*.log"))
    figures.add(DISK, **{"MB/s": scene.read_alone(segments, options.seconds)})


def load(broker, topic, megabytes):
    """A topic with so many MB, at a rate: no more than it is meant to have."""
    seconds = 2
    bench("produce", broker, topic, partitions=6, connections=6, batch_size=65536, warmup_seconds=0,
          seconds=seconds, rate=max(1, megabytes * 1_000_000 // 1024 // seconds))


def fill(broker, options):
    data = options.data / "millstream" / "data"
    size = lambda: sum(path.stat().st_blocks * 512 for path in data.glob("cold-*/*.log"))
    while size() < options.cold_gb * 1e9:
        bench("produce", broker, "cold", partitions=6, connections=6, batch_size=65536, seconds=2, warmup_seconds=0)


def add(figures, line, report):
    figures.add(line, **{"MB/s": report["mb_per_s"], "CPU s/GB": report["server_cpu"]["seconds_per_gb"]})


def bare(figures, line, *words):
    script = scene.REPO / "bench" / "figures" / "bare_send.py"
    command = [sys.executable, script, *map(str, words)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    figures.add(line, **{"MB/s": report["mb_per_s"], "CPU s/GB": report["cpu_s_per_gb"]})


if __name__ == "__main__":
    main()
