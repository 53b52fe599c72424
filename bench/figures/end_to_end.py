#!/usr/bin/env python3
"""What a batch takes from when it is due to when its consumer has it, against a bare disk and a bare socket.

Each round has, one after the other: `bench disk` (16 KiB over old blocks with a flush, one at a time), bare round trips of 16 KiB and a
short answer over loopback, our broker flat out with batches of 16 KiB, acks=all with a flush, and `bench end-to-end` at a tenth of that
rate, with the broker's memory taken at its start (memory.prefault) and, the last two, without that. A percentile of the bare way is that
of the write plus that of the round trip.
Needs: cargo build --release -p millstream -p millstream-bench, python3.
"""
import os
import shutil
import socket
import time

import scene
from scene import bench, say

BATCH_BYTES = 16 << 10
ANSWER_BYTES = 100
WRITE, TRIP, BARE, OURS = "a write and a flush", "a round trip", "both", "end to end"
PERCENTILES = {"p50 ms": "p50", "p99 ms": "p99"}


def main():
    options = scene.arguments(__doc__, rounds=5, seconds=5, partitions=6, connections=6, in_flight=5,
                              short={"rounds": 1, "seconds": 1})
    figures = scene.Figures()
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        bare(options, figures)
        for prefault in (True, False) if number % 2 == 0 else (False, True):
            ours(options, figures, prefault)
    print(f"Medians of {options.rounds} rounds (lowest-highest) of {options.seconds} s; batches of 16 KiB; one shard, "
          f"{options.partitions} partitions, {options.connections} connections.\n")
    figures.table("what", ["p50 ms", "p99 ms", "MB/s", "CPU s/GB", "start s"])
    asked = scene.Asked()
    asked.at_most("p50, end to end against a bare write and a round trip", figures.ratio("p50 ms", OURS, BARE), 1.7)
    asked.at_most("p99, the same", figures.ratio("p99 ms", OURS, BARE), 4)
    asked.end(options)


def bare(options, figures):
    [write] = [answer["latency_us"] for answer in scene.disk(options, 64, "commit")
               if (answer["block_bytes"], answer["depth"]) == (BATCH_BYTES, 1)]
    trips = sorted(round_trips(options.seconds))
    trip = {"p50": trips[len(trips) // 2] * 1e6, "p99": trips[len(trips) * 99 // 100] * 1e6}
    for column, name in PERCENTILES.items():
        figures.add(WRITE, **{column: write[name] / 1e3})
        figures.add(TRIP, **{column: trip[name] / 1e3})
        figures.add(BARE, **{column: (write[name] + trip[name]) / 1e3})


def round_trips(seconds):
    """How long each took, in seconds: to a process that does nothing else."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        served, _ = listener.accept()
        served.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = bytes(ANSWER_BYTES)
        while served.recv(BATCH_BYTES, socket.MSG_WAITALL):
            served.sendall(answer)
        os._exit(0)
    with socket.create_connection(listener.getsockname()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request, end = bytes(BATCH_BYTES), time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            client.sendall(request)
            client.recv(ANSWER_BYTES, socket.MSG_WAITALL)
            yield time.perf_counter() - begun
    os.wait()


def ours(options, figures, prefault):
    directory = options.data / "millstream"
    shutil.rmtree(directory, ignore_errors=True)
    broker = scene.Millstream(directory, **{"memory.prefault": str(prefault).lower()})
    started = broker.start()
    without = "" if prefault else ", memory.prefault=false"
    load = {"partitions": options.partitions, "connections": options.connections, "in_flight": options.in_flight,
            "batch_size": BATCH_BYTES, "seconds": options.seconds, "warmup_seconds": 1}
    most = bench("produce", broker, "flat-out", **load)
    scene.delete(broker, "flat-out")
    figures.add("flat out" + without, **{"start s": started, "MB/s": most["mb_per_s"], "p50 ms": most["latency_us"]["p50"] / 1e3,
                               "p99 ms": most["latency_us"]["p99"] / 1e3})
    scene.settle(options.data)
    report = bench("end-to-end", broker, "paced", rate=max(1, round(most["records_per_s"] / 10)), **load)
    figures.add(OURS + without, **{column: report["latency_us"][name] / 1e3 for column, name in PERCENTILES.items()},
                **{"MB/s": report["mb_per_s"], "CPU s/GB": report["server_cpu"]["seconds_per_gb"]})
    scene.delete(broker, "paced")
    broker.stop()


if __name__ == "__main__":
    main()
