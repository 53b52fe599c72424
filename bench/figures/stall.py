#!/usr/bin/env python3
"""Whether bench shows that a broker stood still for a second.

Our broker, one shard, tells clients to connect to 127.0.0.2, where a proxy has the same port: all that they send and get goes through it,
unchanged. Once in each run it holds everything, in both directions, for a second: from the middle of --seconds on, counted from the first
connection. `bench produce` sends at --rate for --seconds: a second of ten is a tenth of the batches, which wait for up to a second; so its
p99 must be 300 ms at least. First it runs without the stall, to show what the proxy itself adds. bench/tests/stall asks the same within
a simulation.

Beside it, and not asked for: the p99 of Kafka's own kafka-producer-perf-test, at the same rate, for as long, through the same proxy. It
takes the time of a record when it calls send(), and sends the next when that has come back. With its default buffer.memory of 32 MiB, what
falls due within the second is taken into the producer's buffer, and its wait is seen. With a buffer of 64 KiB send() itself waits, and what
was due meanwhile is sent afterwards, with a clock that starts only then: as at any rate at which a stall brings more than
32 MiB. --kafka 0, and --short, leave these out.
Needs: cargo build --release -p millstream -p millstream-bench, python3; for Kafka's tool default-jre-headless and maven.
"""
import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time

import scene
from scene import bench, say

OPEN, ALONE = "bench, a stall of a second", "bench, without the stall"
PERF = "kafka-producer-perf-test, buffer.memory of "
BUFFERS = {PERF + "32 MiB, its default": 32 << 20, PERF + "64 KiB": 64 << 10}
STALL_SECONDS, RECORD_BYTES, BATCH_BYTES = 1.0, 1024, 4096
PROXY = "127.0.0.2"


def main():
    options = scene.arguments(__doc__, rounds=3, seconds=10, rate=4000, partitions=6, kafka=1,
                              short={"rounds": 1, "seconds": 3, "kafka": 0})
    shutil.rmtree(options.data / "millstream", ignore_errors=True)
    broker = scene.Millstream(options.data / "millstream", **{"advertised.host": PROXY})
    broker.start()
    proxy = Proxy((PROXY, broker.port), ("127.0.0.1", broker.port))
    broker.address = f"{PROXY}:{broker.port}"
    arms = [ALONE, OPEN, *(BUFFERS if options.kafka else ())]
    if options.kafka:
        subprocess.run([scene.TOOLS / "kafka.sh", "fetch"], check=True)
    figures = scene.Figures()
    for number in range(options.rounds):
        for arm in arms if number % 2 == 0 else reversed(arms):
            say(f"round {number + 1} of {options.rounds}: {arm}")
            proxy.expect(None if arm == ALONE else options.seconds / 2)
            figures.add(arm, **(perf_test(broker, arm, options) if arm in BUFFERS else produce(broker, options)))
            if proxy.passed_bytes < 0.5 * options.rate * options.seconds * RECORD_BYTES:
                scene.fail(f"only {proxy.passed_bytes} bytes went through the proxy")
            if arm != ALONE and not proxy.held:
                scene.fail("the proxy held nothing")
    broker.stop()
    figures.values = {arm: figures.values[arm] for arm in arms}
    print(f"Medians of {options.rounds} rounds (lowest-highest) of {options.seconds} s; {options.rate:,} records/s of "
          f"{RECORD_BYTES:,} bytes, {options.partitions} partitions, batches of {BATCH_BYTES >> 10} KiB, acks=all; "
          f"everything is held once for {STALL_SECONDS:g} s.\n")
    figures.table("what", ["records", "p50 ms", "p99 ms", "max ms"])
    asked = scene.Asked()
    asked.at_least("p99 of bench with a stall of a second, in ms", figures.of(OPEN, "p99 ms"), 300)
    asked.at_most("p99 of bench without it, in ms", figures.of(ALONE, "p99 ms"), 300)
    for arm in BUFFERS:
        if values := figures.of(arm, "p99 ms"):
            print(f"- p99 of {arm}, in ms: {scene.spread(values)}; nothing is asked")
    asked.end(options)


def produce(broker, options):
    """Without a warm-up: what is held is in what is measured."""
    report = bench("produce", broker, "bench", partitions=options.partitions, connections=2, record_size=RECORD_BYTES,
                   batch_size=BATCH_BYTES, rate=options.rate, seconds=options.seconds, warmup_seconds=0)
    latency = report["latency_us"]
    return {"records": report["records"], "p50 ms": latency["p50"] / 1e3, "p99 ms": latency["p99"] / 1e3, "max ms": latency["max"] / 1e3}


def perf_test(broker, arm, options):
    command = [scene.TOOLS / "kafka.sh", "tool", "producer-perf-test", "--topic", "bench",
               "--num-records", str(options.rate * options.seconds), "--record-size", str(RECORD_BYTES), "--throughput", str(options.rate),
               "--producer-props", f"bootstrap.servers={broker.address}", "acks=all", f"batch.size={BATCH_BYTES}",
               f"buffer.memory={BUFFERS[arm]}"]
    done = subprocess.run(command, capture_output=True, text=True)
    # The last line is of all records.
    if done.returncode != 0 or not (lines := [line for line in done.stdout.splitlines() if "99th" in line]):
        scene.fail(f"kafka-producer-perf-test failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    value = lambda pattern: float(re.search(pattern, lines[-1])[1])
    return {"records": value(r"(\d+) records sent"), "p50 ms": value(r"([\d.]+) ms 50th"), "p99 ms": value(r"([\d.]+) ms 99th"),
            "max ms": value(r"([\d.]+) ms max")}


class Proxy:
    """Passes bytes on between clients and a broker, and holds them all for a while when it is told to."""

    def __init__(self, listens, to):
        self.to, self.lock = to, threading.Lock()
        self.expect(None)
        self.listener = socket.create_server(listens)
        threading.Thread(target=self.accept, daemon=True).start()

    def expect(self, after):
        """From so many seconds after the next connection on everything is held; None: nothing is."""
        with self.lock:
            self.after, self.begin, self.held, self.passed_bytes = after, None, False, 0

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            with self.lock:
                if self.after is not None and self.begin is None:
                    self.begin = time.monotonic() + self.after
            broker = socket.create_connection(self.to)
            for one, other in ((client, broker), (broker, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(1 << 18):
                with self.lock:
                    left = self.begin + STALL_SECONDS - time.monotonic() if self.begin is not None else 0
                    holds = 0 < left <= STALL_SECONDS
                    self.held |= holds
                    self.passed_bytes += len(data)
                if holds:
                    time.sleep(left)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # Who still waits for the other side must learn that it is gone.
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
