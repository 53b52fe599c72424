#!/usr/bin/env python3
"""What our broker reaches beside Apache Kafka, and beside what the disk itself gives.

Each pair has, one after the other: `bench disk`, and each figure on both sides, every other pair in the other order. One side runs at a
time, alone with the load generator, on a new directory: its broker is started, warmed up, measured and ended. A JVM is warm when two runs
of --warmup seconds with that load in a row took no less CPU per GB than those before: on two busy cores it compiles for 20 seconds. The
partitions, connections and requests in flight are the same on both sides, and the load generator is (`bench produce`). --only 1,3 runs
some of these:

1. acks=all with a flush on both sides, batches of 16 KiB and of 1 MiB, records of 1,024 bytes. First flat out; then at a rate that Kafka
   can hold: --rate-share of what it took flat out in the first pair. Both keep 512 MiB of each partition in segments of 128 MiB, and ours
   is measured once it writes over the files of segments that went.
2. Ours with a flush, Kafka without one, as it is by default; batches of 64 KiB. Both sides write --dirty-times as much as the kernel lets
   be dirty before it makes a writer wait (vm.dirty_bytes, or vm.dirty_ratio of MemAvailable), so that Kafka, too, comes to the disk; what
   its page cache takes at first counts for it. Nothing is removed meanwhile: with retention the kernel drops what it never wrote. It is
   less if the disk has no room for twice as much, and says so. The memory is the peak of a control group in which the broker was started,
   its page cache included, from the end of the warm-up on; without such groups that figure is left out by name.
3. 100-byte records in batches of 100 KB, flushed on both sides, while the load generator shares the host's cores. MB/s are of the records'
   values, without the 8 bytes or so that each has around it on the disk.

The disk's ceiling is that of a bare writer who makes what he has written durable, as who acknowledges must: the pattern of `bench disk`'s
groups over old blocks (1, 4 or 16 MiB, one or two in flight, fdatasync or RWF_DSYNC) with the best median. It is taken for batches of
every size: a broker is free to join small ones to groups as large. That is strict for them, since they are written twice. What the disk
gives with one flush at the end is shown beside it.
CPU seconds are user and system time of the broker's process, without what kernel threads do for it: writing back for Kafka, completing
direct writes for us. --short runs our broker alone, and asks the disk only for its bandwidth.
Needs: cargo build --release -p millstream -p millstream-bench, python3, root for the control group; default-jre-headless and maven.
"""
import math
import os
import pathlib
import shutil
import statistics

import scene
from scene import MIB, bench, say

OURS, KAFKA = "Millstream", "Kafka"
FLUSHED = {"log.flush.interval.messages": 1}
# Of each partition.
KEPT = {"log.segment.bytes": 128 * MIB, "log.retention.bytes": 512 * MIB, "log.retention.check.interval.ms": 1000}
BOTH = {"log.segment.delete.delay.ms": 0}
# Kafka looks for what may go half a minute after its start, by default.
KAFKAS = {"log.initial.task.delay.ms": 1000}
TOPIC = "pair"
ROOM_BYTES = 4 << 30


def main():
    options = scene.arguments(__doc__, only="1,2,3", rounds=5, seconds=8, warmup=5, disk_seconds=2, partitions=6, connections=6, shards=1,
                              rate_share=0.5, dirty_times=3.0, kafka=1,
                              short={"rounds": 1, "seconds": 1, "warmup": 1, "disk_seconds": 1, "dirty_times": 0.0, "kafka": 0})
    if unknown := set(options.only.split(",")) - set(PARTS):
        scene.fail(f"no figure {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    disk = Disk(options)
    parts = [part(options) for number, part in PARTS.items() if number in options.only.split(",")]
    sides = [KAFKA, OURS] if options.kafka else [OURS]
    for number in range(options.rounds):
        say(f"pair {number + 1} of {options.rounds}: the disk")
        disk.measure()
        for part in parts:
            # Kafka comes first in the first pair: its rate is the one that both are asked for.
            for who in sides if number % 2 == 0 else reversed(sides):
                say(f"pair {number + 1} of {options.rounds}: {part.name}: {who}")
                part.measure(who, number)
    print(f"Medians of {options.rounds} pairs (lowest-highest); {options.partitions} partitions, {options.connections} connections; "
          f"ours has {options.shards} shard(s) of {os.cpu_count()} cores, Kafka 1 GiB of heap.\n")
    disk.table()
    for part in parts:
        print(f"\n{part.name}. {part.how()}\n")
        part.figures.table("what", part.columns)
    asked = scene.Asked()
    for part in parts:
        part.ask(asked, disk)
    if not options.kafka:
        print("- without Kafka: what is asked against it was not")
    asked.end(options)


class Disk:
    """The disk's own answers, and its ceiling."""

    def __init__(self, options):
        self.options, self.figures = options, scene.Figures()
        self.subject = "bandwidth" if options.short else "group"

    def measure(self):
        settle(self.options)
        only = {"bandwidth", self.subject}
        for answer in scene.disk(self.options, 64 if self.options.short else 4096, *only, seconds=self.options.disk_seconds):
            if answer["place"] == "overwrite":
                self.figures.add(self.name(answer), **{"MB/s": answer["mb_per_s"]})

    @staticmethod
    def name(answer):
        size, depth = answer["block_bytes"] >> 10, answer["depth"]
        return f"{answer['subject']}: {size} KiB over old blocks, {depth} in flight, flush: {answer['flush']}"

    def best(self, subject):
        lines = [line for line in self.figures.values if line.startswith(subject)]
        return max(lines, key=lambda line: statistics.median(self.figures.of(line, "MB/s")))

    def ceiling(self):
        """MB/s, of each pair."""
        return self.figures.of(self.best(self.subject), "MB/s")

    def table(self):
        shown, bandwidth = scene.Figures(), self.best("bandwidth")
        shown.values = {line: values for line, values in self.figures.values.items() if line.startswith(self.subject) or line == bandwidth}
        shown.table("the disk", ["MB/s"])
        print(f"\nThe ceiling is: {self.best(self.subject)}.")


def settle(options):
    if not options.short:
        scene.settle(options.data)


def start(who, options, group=None, **settings):
    """A broker on a new directory."""
    for name in (OURS, KAFKA):
        shutil.rmtree(options.data / name.lower(), ignore_errors=True)
    settle(options)
    if who == OURS:
        broker = scene.Millstream(options.data / who.lower(), **BOTH, **settings)
        broker.shards = options.shards
    else:
        broker = scene.Kafka(options.data / who.lower(), **BOTH, **KAFKAS, **settings)
    if group:
        broker.under = group.runner()
    broker.start()
    return broker


def warm_up(broker, options, load, topic=TOPIC, then=lambda: None):
    """A JVM compiles what runs often, and shares the cores with its compiler until then; ours has its memory from then on."""
    least, runs_since = math.inf, 0
    while runs_since < 2 and not options.short:
        report = bench("produce", broker, topic, seconds=options.warmup, **{**load, "warmup_seconds": 0})
        then()
        if not isinstance(broker, scene.Kafka):
            return
        cost = report["server_cpu"]["seconds_per_gb"]
        least, runs_since = (cost, 0) if cost < 0.95 * least else (least, runs_since + 1)


def fill(broker, options, load):
    """Until ours has files to write over."""
    if options.short or isinstance(broker, scene.Kafka):
        return
    for _ in range(100):
        if broker.metrics()["millstream_reused_segments_total"] >= 2 * options.partitions:
            return
        bench("produce", broker, TOPIC, seconds=2, warmup_seconds=0, **load)
    scene.fail("no file of a removed segment was used again")


def add(figures, line, report):
    figures.add(line, **{
        "MB/s": report["mb_per_s"], "million records/s": report["records_per_s"] / 1e6, "p50 ms": report["latency_us"]["p50"] / 1e3,
        "p99 ms": report["latency_us"]["p99"] / 1e3, "CPU s/GB": report["server_cpu"]["seconds_per_gb"],
        "CPU s/million": report["server_cpu"]["seconds_per_million_records"],
        "cores of the broker": report["server_cpu"]["seconds"] / report["seconds"],
        "cores of bench": report["bench_cpu"]["seconds"] / report["seconds"]})


def at_least_the_lower(asked, what, reached, limits):
    """`limits` holds, by what they are called, values for each pair; one that was not measured has none, and then nothing is asked."""
    lower = [min(values) for values in zip(*limits.values())]
    if lower:
        asked.at_least(f"{what} against the lower of {' and '.join(limits)}", [one / other for one, other in zip(reached, lower)], 1)
    for name, values in limits.items():
        if values:
            binds = sum(limit == low for limit, low in zip(values, lower))
            shares = scene.spread([one / limit for one, limit in zip(reached, values)])
            print(f"{'  - ' if lower else f'- {what} '}against {name} alone: {shares}"
                  + f"; it is the lower in {binds} of {len(lower)} pairs" * bool(lower))


def times(values, factor):
    return [factor * value for value in values]


class Flushed:
    name = "1: flushed on both sides"
    columns = ["MB/s", "p50 ms", "p99 ms", "CPU s/GB", "cores of the broker", "cores of bench", "p50 ms, paced", "p99 ms, paced", "kept"]
    # Bytes of a batch, requests in flight on a connection, and how many times Kafka's MB/s is asked.
    SIZES = {"16 KiB": (16 << 10, 16, 20), "1 MiB": (MIB, 4, 2)}

    def __init__(self, options):
        self.options, self.figures, self.rates = options, scene.Figures(), {}

    def how(self):
        sizes = ", ".join(f"{size}: {in_flight} in flight a connection, paced at {self.rates[size]:,} records/s"
                          for size, (_, in_flight, _) in self.SIZES.items())
        return (f"acks=all. Durability of both: log.flush.interval.messages=1, flushed before it is acknowledged. "
                f"{self.options.seconds} s each; records of 1,024 bytes; {sizes}. "
                f"Both keep {KEPT['log.retention.bytes'] // MIB} MiB a partition in segments of "
                f"{KEPT['log.segment.bytes'] // MIB} MiB.")

    def load(self, size):
        batch_bytes, in_flight, _ = self.SIZES[size]
        return {"partitions": self.options.partitions, "connections": self.options.connections, "record_size": 1024,
                "batch_size": batch_bytes, "in_flight": in_flight, "acks": "all"}

    def run(self, broker, **flags):
        settle(self.options)
        return bench("produce", broker, TOPIC, seconds=self.options.seconds, warmup_seconds=min(1, self.options.warmup), **flags)

    def measure(self, who, number):
        broker = start(who, self.options, **FLUSHED, **KEPT)
        for size in self.SIZES:
            warm_up(broker, self.options, self.load(size))
        fill(broker, self.options, self.load("1 MiB"))
        for size in self.SIZES if number % 2 == 0 else reversed(self.SIZES):
            line = f"{who}, {size}"
            report = self.run(broker, **self.load(size))
            add(self.figures, line, report)
            rate = self.rates.setdefault(size, max(1, round(self.options.rate_share * report["records_per_s"])))
            paced = self.run(broker, rate=rate, **self.load(size))
            self.figures.add(line, **{"p50 ms, paced": paced["latency_us"]["p50"] / 1e3, "p99 ms, paced": paced["latency_us"]["p99"] / 1e3,
                                      "kept": paced["records_per_s"] / rate})
        broker.stop()

    def ask(self, asked, disk):
        for size, (_, _, factor) in self.SIZES.items():
            ours, theirs = f"{OURS}, {size}", f"{KAFKA}, {size}"
            at_least_the_lower(asked, f"1: MB/s of {size} batches", self.figures.of(ours, "MB/s"), {
                f"{factor} times Kafka's": times(self.figures.of(theirs, "MB/s"), factor),
                "85 % of the ceiling": times(disk.ceiling(), 0.85)})
            if self.options.kafka:
                asked.at_least(f"1: of the rate with {size} batches, what Kafka kept", self.figures.of(theirs, "kept"), 0.99)
                asked.at_most(f"1: p99 at that rate with {size} batches, against Kafka's",
                              self.figures.ratio("p99 ms, paced", ours, theirs), 0.1)


class Unflushed:
    name = "2: Kafka does not flush"
    columns = ["MB/s", "GB written", "seconds", "CPU s/GB", "peak of memory, MB"]
    BATCH_BYTES, IN_FLIGHT = 64 << 10, 8

    def __init__(self, options):
        self.options, self.figures, self.why_no_memory = options, scene.Figures(), None
        self.dirty_bytes, self.dirty_how = dirty_limit()
        wanted = options.dirty_times * self.dirty_bytes
        room = max(0, shutil.disk_usage(options.data).free - ROOM_BYTES) / 2
        self.bytes, self.warning = max(1e6, min(wanted, room)), ""
        if wanted > room:
            self.warning = (f" WARNING: the disk has no room for {options.dirty_times:g} times that: "
                            f"{self.bytes / 1e9:.1f} GB are written, {self.bytes / self.dirty_bytes:.1f} times.")
            say(self.warning.strip())

    def how(self):
        return (f"acks=all, batches of 64 KiB, {self.IN_FLIGHT} in flight a connection, records of 1,024 bytes. Durability: ours "
                f"log.flush.interval.messages=1, flushed before it is acknowledged; Kafka's its default, not flushed. At least "
                f"{self.bytes / 1e9:.1f} GB are written: the kernel's dirty limit is {self.dirty_bytes / 1e9:.1f} GB ({self.dirty_how})."
                f"{self.warning} Nothing is removed meanwhile.")

    def measure(self, who, number):
        group = scene.MemoryGroup(who.lower())
        self.why_no_memory = group.why_not
        broker = start(who, self.options, group=group, **(FLUSHED if who == OURS else {}))
        load = {"partitions": self.options.partitions, "connections": self.options.connections, "record_size": 1024,
                "batch_size": self.BATCH_BYTES, "in_flight": self.IN_FLIGHT, "acks": "all", "warmup_seconds": 0}
        warm_up(broker, self.options, load, "warm-up", lambda: scene.delete(broker, "warm-up"))
        settle(self.options)
        group.forget()
        # A run that shows the rate, then what it fell short of.
        written, seconds, cpu, length = 0, 0, 0, self.options.seconds
        while written < self.bytes:
            if not self.options.short and shutil.disk_usage(self.options.data).free < ROOM_BYTES + self.bytes - written:
                scene.fail(f"something else takes the disk: there is no room for {(self.bytes - written) / 1e9:.1f} GB any more")
            report = bench("produce", broker, TOPIC, seconds=length, **load)
            written, seconds, cpu = written + report["bytes"], seconds + report["seconds"], cpu + report["server_cpu"]["seconds"]
            length = min(120, max(1, math.ceil((self.bytes - written) / 1e6 / report["mb_per_s"])))
        self.figures.add(who, **{"MB/s": written / 1e6 / seconds, "GB written": written / 1e9, "seconds": seconds,
                                 "CPU s/GB": cpu / (written / 1e9)})
        if group.path:
            self.figures.add(who, **{"peak of memory, MB": group.peak() / 1e6})
        broker.stop()
        group.remove()

    def ask(self, asked, disk):
        at_least_the_lower(asked, "2: MB/s of 64 KiB batches", self.figures.of(OURS, "MB/s"), {
            "2 times Kafka's that does not flush": times(self.figures.of(KAFKA, "MB/s"), 2),
            "85 % of the ceiling": times(disk.ceiling(), 0.85)})
        if self.options.kafka:
            asked.at_most("2: CPU per GB, against Kafka's", self.figures.ratio("CPU s/GB", OURS, KAFKA), round(1 / 3, 3))
        if self.why_no_memory:
            print(f"- 2: memory against Kafka's: NOT MEASURED, no control group could be made: {self.why_no_memory}")
        elif self.options.kafka:
            asked.at_most("2: peak of memory, against Kafka's", self.figures.ratio("peak of memory, MB", OURS, KAFKA), 0.2)


def dirty_limit():
    """Bytes that may be dirty before a writer waits, and from what."""
    number = lambda name: int(pathlib.Path("/proc/sys/vm", name).read_text("ascii"))
    if exact := number("dirty_bytes"):
        return exact, "vm.dirty_bytes"
    meminfo = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text("ascii").splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) * 1024
    ratio = number("dirty_ratio")
    return ratio * available // 100, f"vm.dirty_ratio: {ratio} % of the {available / 1e9:.1f} GB of MemAvailable"


class Records:
    name = "3: small records"
    columns = ["million records/s", "MB/s", "CPU s/million", "CPU s/GB", "cores of the broker", "cores of bench", "p50 ms", "p99 ms"]
    RECORD_BYTES, BATCH_BYTES, IN_FLIGHT = 100, 100_000, 16
    # A disk that gives more than 600 MB/s is not asked to be full.
    MOST_MB_PER_S = 500

    def __init__(self, options):
        self.options, self.figures = options, scene.Figures()

    def how(self):
        return (f"acks=all, {self.RECORD_BYTES}-byte records in batches of {self.BATCH_BYTES // 1000} KB, {self.IN_FLIGHT} in flight a "
                f"connection, {self.options.seconds} s each. Durability of both: log.flush.interval.messages=1, flushed before it is "
                "acknowledged. Both keep as much as in 1.")

    def measure(self, who, number):
        load = {"partitions": self.options.partitions, "connections": self.options.connections, "record_size": self.RECORD_BYTES,
                "batch_size": self.BATCH_BYTES, "in_flight": self.IN_FLIGHT, "acks": "all"}
        broker = start(who, self.options, **FLUSHED, **KEPT)
        warm_up(broker, self.options, load)
        fill(broker, self.options, load)
        settle(self.options)
        add(self.figures, who, bench("produce", broker, TOPIC, seconds=self.options.seconds, **load))
        broker.stop()

    def ask(self, asked, disk):
        reached = self.figures.of(OURS, "MB/s")
        at_least_the_lower(asked, "3: MB/s of 100-byte records", reached, {
            "5 million records a second": [self.MOST_MB_PER_S] * len(reached), "85 % of the ceiling": times(disk.ceiling(), 0.85)})
        asked.at_most("3: CPU seconds of the broker a million records", self.figures.of(OURS, "CPU s/million"), 0.1)


PARTS = {"1": Flushed, "2": Unflushed, "3": Records}


if __name__ == "__main__":
    main()
