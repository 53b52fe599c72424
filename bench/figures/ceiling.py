#!/usr/bin/env python3
"""What large batches reach, against what the same file system gives a bare writer.

Each round has, one after the other: `bench disk`, and our broker flat out with batches of 64 KiB and of 1 MiB, acks=all with a
flush, one shard. Batches of this size are written once, behind the end of their segment: so it is the bare writer's new file that
they are held against. Then the same with a topic that is as long as retention.bytes has it: segments that come next are written
over the files of those that went, as the bare writer writes over old blocks; with one shard, and with two. The CPU is the
broker's, system calls included; what kernel threads do for it is not. Each broker has written for as long before it is measured.

The bare writer makes what it has written durable, as who acknowledges must, in groups of 1, 4 or 16 MiB (as large as our groups
become), one or two in flight, with fdatasync or RWF_DSYNC: of these patterns, the one with the best median is asked for. Beside it,
what it reaches with four writes in flight and one flush at the end: nothing is durable before.
Needs: cargo build --release -p millstream -p millstream-bench, python3.
"""
import shutil
import statistics

import scene
from scene import MIB, bench, say

SIZES = {"64 KiB": 64 << 10, "1 MiB": MIB}
PLACES = {"fresh": "a new file", "overwrite": "over old blocks"}
# Of each partition: what is removed in a second is a part of what is kept.
KEPT = {"log.segment.bytes": 64 * MIB, "log.retention.bytes": 512 * MIB, "log.retention.check.interval.ms": 1000,
        "log.segment.delete.delay.ms": 0}


def main():
    options = scene.arguments(__doc__, rounds=5, seconds=5, partitions=6, connections=2, in_flight=8,
                              short={"rounds": 1, "seconds": 1})
    figures = scene.Figures()
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        disk(options, figures)
        for size in SIZES if number % 2 == 0 else reversed(SIZES):
            ours(size, options, figures)
            ours(size, options, figures, reuses=True)
            ours(size, options, figures, reuses=True, shards=2)
    print(f"Medians of {options.rounds} rounds (lowest-highest) of {options.seconds} s; one shard or two, {options.partitions} partitions, "
          f"{options.connections} connections with {options.in_flight} in flight each.\n")
    bests = {place: best(figures, place) for place in PLACES.values()}
    figures.values = dict(sorted(figures.values.items(), key=lambda line: ("groups" not in line[0], "MiB" in line[0])))
    figures.table("what", ["MB/s", "segments reused", "CPU s/GB", "cores of the broker", "cores of bench", "p50 ms", "p99 ms"])
    asked = scene.Asked()
    one, reused, two = ("Millstream, 1 MiB" + kind for kind in ("", ", reused files", ", reused files, two shards"))
    for line, place in (one, "a new file"), (reused, "over old blocks"):
        asked.at_least(f"MB/s of {line}, against a bare writer with its best flush pattern ({bests[place]})",
                       figures.ratio("MB/s", line, bests[place]), 0.85)
    for line, bare in (two, bests["over old blocks"]), (one, "a new file, 1 MiB"), (reused, "over old blocks, 1 MiB"), \
                      (two, "over old blocks, 1 MiB"):
        print(f"- {line} / {bare}: {scene.spread(figures.ratio('MB/s', line, bare))}; nothing is asked")
    asked.end(options)


def best(figures, place):
    """The line of the bare writer's pattern that gave the most."""
    patterns = [line for line in figures.values if line.startswith(f"{place}, groups")]
    return max(patterns, key=lambda line: statistics.median(figures.of(line, "MB/s")))


def disk(options, figures):
    for answer in scene.disk(options, 64 if options.short else 4096, "bandwidth", "group"):
        place, size = PLACES[answer["place"]], answer["block_bytes"]
        if answer["subject"] == "group":
            name = f"{place}, groups of {size // MIB} MiB, {answer['depth']} in flight, {answer['flush']}"
            figures.add(name, **{"MB/s": answer["mb_per_s"], "p50 ms": answer["latency_us"]["p50"] / 1e3,
                                 "p99 ms": answer["latency_us"]["p99"] / 1e3})
        elif size in SIZES.values():
            [shown] = [name for name, its in SIZES.items() if its == size]
            figures.add(f"{place}, {shown}", **{"MB/s": answer["mb_per_s"]})


def ours(size, options, figures, reuses=False, shards=1):
    directory = options.data / "millstream"
    shutil.rmtree(directory, ignore_errors=True)
    scene.settle(options.data)
    broker = scene.Millstream(directory, **(KEPT if reuses else {}))
    broker.shards = shards
    broker.start()
    flags = {"partitions": options.partitions, "connections": options.connections, "in_flight": options.in_flight,
             "record_size": 8192}
    # Whatever follows, its memory is not new to the process: what a host takes to give it is not what is asked here.
    bench("produce", broker, "large", batch_size=MIB, seconds=options.seconds, **flags)
    if reuses:
        fill(broker, options, flags)
    before = broker.metrics()
    report = bench("produce", broker, "large", batch_size=SIZES[size], seconds=options.seconds, **flags)
    after = broker.metrics()
    broker.stop()
    cpu = report["server_cpu"]["seconds"]
    name = "millstream_reused_segments_total"
    line = f"Millstream, {size}" + ", reused files" * reuses + ", two shards" * (shards == 2)
    figures.add(line, **{
        "segments reused": after[name] - before[name],
        "MB/s": report["mb_per_s"], "CPU s/GB": report["server_cpu"]["seconds_per_gb"],
        "cores of the broker": cpu / report["seconds"], "cores of bench": report["bench_cpu"]["seconds"] / report["seconds"],
        "p50 ms": report["latency_us"]["p50"] / 1e3, "p99 ms": report["latency_us"]["p99"] / 1e3})


def fill(broker, options, flags):
    """Writes until every partition has more than is kept."""
    for _ in range(1 if options.short else 100):
        bench("produce", broker, "large", batch_size=MIB, seconds=1 if options.short else 5, **flags)
        if broker.metrics()["millstream_reused_segments_total"] >= 2 * options.partitions:
            return
    if not options.short:
        scene.fail("no file of a removed segment was used again")


if __name__ == "__main__":
    main()
