#!/usr/bin/env python3
"""Whether each number of a profile matters: the profile against itself without it.

For each profile of tuning/ but dev, in turn, in each round: our broker, one shard, with all that [broker] sets; then, for each of its
settings, with that one at its default. What it is measured by is what the profile is for. Shares of the host (shards, memory.bytes) are
left out: the load generator needs the other core, and no load here is larger than the memory. --set KEY=VALUE tries a number that a
profile might have.
Needs: cargo build --release -p millstream -p millstream-bench, python3.
"""
import shutil
import tomllib

import scene
from scene import MIB, REPO, bench, say

SHARES = ("shards", "memory.bytes")
# Measured from the second lap of the journal on: in the first one files are made, and nothing is overwritten.
LAPPED = "many-partitions"
JOURNAL_BYTES = 64 * MIB
# What is measured of each: the load, the column, and whether more is better.
LOADS = {
    "throughput": ({"batch_size": 100_000, "record_size": 100, "partitions": 6, "connections": 4, "in_flight": 16}, "MB/s", True),
    "latency": ({"batch_size": 16384, "record_size": 1024, "partitions": 6, "connections": 4, "rate": 20000}, "p99 ms", False),
    "balanced": ({"batch_size": 16384, "record_size": 1024, "partitions": 6, "connections": 4, "in_flight": 8}, "p99 ms", False),
    "many-partitions": ({"batch_size": 1, "record_size": 100, "partitions": 4000, "connections": 1, "in_flight": 256}, "acks/s", True),
}


def main():
    options = scene.arguments(__doc__, rounds=3, seconds=8, warmup=4, profiles=",".join(LOADS), set="",
                              short={"rounds": 1, "seconds": 1, "warmup": 1, "profiles": "many-partitions"})
    names = options.profiles.split(",")
    if unknown := set(names) - set(LOADS):
        scene.fail(f"no load for {', '.join(sorted(unknown))}: there are {', '.join(LOADS)}")
    figures = scene.Figures()
    for number in range(options.rounds):
        for name in names:
            arms = arms_of(name, options)
            for arm in list(arms) if number % 2 == 0 else reversed(arms):
                say(f"round {number + 1} of {options.rounds}, {name}, {arm}")
                measure(name, arm, arms[arm], options, figures)
    print(f"Medians of {options.rounds} rounds (lowest-highest) of {options.seconds} s; one shard.\n")
    figures.values = {line: figures.values[line] for line in (f"{name}, {arm}" for name in names for arm in arms_of(name, options))}
    figures.table("profile", ["MB/s", "acks/s", "p50 ms", "p99 ms", "CPU s/GB"])
    asked = scene.Asked()
    for name in names:
        _, column, is_more = LOADS[name]
        for arm in list(arms_of(name, options))[1:]:
            ratio = figures.ratio(column, f"{name}, whole", f"{name}, {arm}")
            what = f"{column} of {name}, against {arm}"
            (asked.at_least(what, ratio, 1.05) if is_more else asked.at_most(what, ratio, 0.95))
    asked.end(options)


def arms_of(name, options):
    """The settings of the profile, and those without each of them, by what they are called."""
    settings = flat(tomllib.loads((REPO / "tuning" / f"{name}.toml").read_text("utf-8"))["broker"])
    settings = {key: value for key, value in settings.items() if key not in SHARES}
    if options.set:
        key, value = options.set.split("=", 1)
        settings[key] = value
    arms = {"whole": settings}
    for key in settings:
        arms[f"without {key}"] = {other: value for other, value in settings.items() if other != key}
    return arms


def flat(table, before=""):
    found = {}
    for key, value in table.items():
        found.update(flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value})
    return found


def measure(name, arm, settings, options, figures):
    load, _, _ = LOADS[name]
    directory = options.data / "millstream"
    shutil.rmtree(directory, ignore_errors=True)
    scene.settle(options.data)
    # Enough for any journal that a profile has.
    broker = scene.Millstream(directory, **{"memory.bytes": 2048 * MIB, **settings})
    broker.start()
    journal = int(settings.get("journal.bytes", JOURNAL_BYTES))
    while name == LAPPED and not options.short and broker.metrics()["millstream_journal_written_bytes_total"] < journal:
        bench("produce", broker, "profile", seconds=2, warmup_seconds=0, **load)
    report = bench("produce", broker, "profile", seconds=options.seconds, warmup_seconds=options.warmup, **load)
    broker.stop()
    figures.add(f"{name}, {arm}", **{
        "MB/s": report["mb_per_s"], "acks/s": report["requests"] / report["seconds"], "p50 ms": report["latency_us"]["p50"] / 1e3,
        "p99 ms": report["latency_us"]["p99"] / 1e3, "CPU s/GB": report["server_cpu"]["seconds_per_gb"]})


if __name__ == "__main__":
    main()
