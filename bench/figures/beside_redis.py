#!/usr/bin/env python3
"""Small and durable: what an acknowledged record costs, beside Redis Streams.

Each pair has both sides, every other pair in the other order; one side runs at a time, alone with its load generator, on a new directory.
50 connections append one record a request, of 100 bytes and of 1 KiB, each acknowledged once it is on the disk: with one in flight on each
connection, and with 16. Before each run that is measured comes one of its kind that counts for nothing: --warmup seconds of ours, --trial
appends, times those in flight, of Redis.

Redis is Debian's redis-server with `appendonly yes` and `appendfsync always`, without snapshots and without rewriting its append-only file
meanwhile, which costs it CPU; XADD to one stream by redis-benchmark, with `-P 16` for 16 in flight: it sends 16 commands at once, and sends
the next when all are answered. Its p99 is redis-benchmark's own, its CPU the process's, user and system time from just before
redis-benchmark starts to just after it ends. Ours is one shard and one partition, since a stream is one log, and `bench produce` with one
record a batch; it keeps as many in flight, and sends the next with each answer. Both are closed loops of one thread: compare their
latencies, do not promise them.
Needs: cargo build --release -p millstream -p millstream-bench, python3, redis-server and redis-tools; without these it ends with 77.
"""
import atexit
import csv
import shutil
import socket
import subprocess
import time

import scene
from scene import bench, say

OURS, REDIS = "Millstream", "Redis Streams"
SIZES = {"100 bytes": 100, "1 KiB": 1024}
IN_FLIGHT = (1, 16)
COLUMNS = ["acks/s", "p50 ms", "p99 ms", "CPU us/append", "cores of the server"]
TOPIC = "stream"


def main():
    options = scene.arguments(__doc__, rounds=5, seconds=5, warmup=2, trial=10_000, connections=50, partitions=1,
                              short={"rounds": 1, "seconds": 1, "warmup": 0, "trial": 1_000})
    for command in ("redis-server", "redis-benchmark"):
        if not shutil.which(command):
            scene.cannot(f"no {command}: apt-get install redis-server redis-tools")
    figures = scene.Figures()
    for number in range(options.rounds):
        for side in (redis, ours) if number % 2 == 0 else (ours, redis):
            say(f"pair {number + 1} of {options.rounds}: {side.__name__}")
            side(options, figures)
    version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    print(f"Medians of {options.rounds} pairs (lowest-highest) of {options.seconds} s; {options.connections} connections; "
          f"Redis {version[2:]}. Durability: ours log.flush.interval.messages=1, {options.partitions} partition(s); "
          "Redis appendfsync always, one stream. Both are flushed before the answer.\n")
    figures.values = dict(sorted(figures.values.items(), key=lambda line: line[0].partition(", ")[::-1]))
    figures.table("what", COLUMNS)
    asked = scene.Asked()
    for kind in kinds():
        pair = f"{OURS}, {kind}", f"{REDIS}, {kind}"
        asked.at_least(f"acks/s, {kind}, against Redis", figures.ratio("acks/s", *pair), 1)
        asked.at_most(f"CPU an append, {kind}, against Redis", figures.ratio("CPU us/append", *pair), 1)
        asked.at_most(f"p99, {kind}, against Redis", figures.ratio("p99 ms", *pair), 1)
    asked.end(options)


def kinds():
    return {f"{size}, {in_flight} in flight": (SIZES[size], in_flight) for size in SIZES for in_flight in IN_FLIGHT}


def ours(options, figures):
    directory = options.data / "millstream"
    shutil.rmtree(directory, ignore_errors=True)
    broker = scene.Millstream(directory, **{"log.flush.interval.messages": 1})
    broker.start()
    for kind, (record_bytes, in_flight) in kinds().items():
        if not options.short:
            scene.settle(options.data)
        report = bench("produce", broker, TOPIC, partitions=options.partitions, connections=options.connections, in_flight=in_flight,
                       record_size=record_bytes, batch_size=1, acks="all", seconds=options.seconds, warmup_seconds=options.warmup)
        if report["requests"] != report["records"]:
            scene.fail(f"{report['records']} records in {report['requests']} requests: one in each was meant")
        cpu = report["server_cpu"]["seconds"]
        figures.add(f"{OURS}, {kind}", **{
            "acks/s": report["records_per_s"], "p50 ms": report["latency_us"]["p50"] / 1e3, "p99 ms": report["latency_us"]["p99"] / 1e3,
            "CPU us/append": 1e6 * cpu / report["records"], "cores of the server": cpu / report["seconds"]})
    broker.stop()


class Redis:
    """A server on a new directory."""

    def __init__(self, directory, port=27092):
        self.port = port
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        with open(directory / "redis.out", "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(
                ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes",
                 "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        atexit.register(self.process.kill)
        begun = time.monotonic()
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - begun > 60:
                scene.fail("redis-server did not start: " + (directory / "redis.out").read_text("utf-8"))
            time.sleep(0.05)
        for key, value in (("appendonly", "yes"), ("appendfsync", "always")):
            if value not in self.ask(f"CONFIG GET {key}").split():
                scene.fail(f"redis-server has no {key} {value}")

    def ask(self, command):
        with socket.create_connection(("127.0.0.1", self.port), 60) as client:
            client.sendall(command.encode() + b"\r\nQUIT\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
        return answer.decode()

    def answers(self):
        try:
            return "PONG" in self.ask("PING")
        except OSError:
            return False

    def run(self, options, requests, record_bytes, in_flight):
        """So many XADDs: the row of redis-benchmark."""
        command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(self.port), "-c", str(options.connections), "-n", str(requests),
                   "-P", str(in_flight), "--precision", "3", "--csv", "XADD", TOPIC, "*", "value", "x" * record_bytes]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        [row] = csv.DictReader(out[out.index('"test"'):].splitlines())
        return row

    def stop(self):
        self.process.terminate()
        self.process.wait(300)


def redis(options, figures):
    server = Redis(options.data / "redis")
    for kind, (record_bytes, in_flight) in kinds().items():
        trial = server.run(options, options.trial * in_flight, record_bytes, in_flight)
        requests = max(options.trial, round(options.seconds * float(trial["rps"])))
        server.ask(f"DEL {TOPIC}")
        if not options.short:
            scene.settle(options.data)
        cpu, begun = scene.cpu_seconds(server.process.pid), time.monotonic()
        row = server.run(options, requests, record_bytes, in_flight)
        seconds, cpu = time.monotonic() - begun, scene.cpu_seconds(server.process.pid) - cpu
        # It sends what remains of the last pipeline, too.
        kept = int(server.ask(f"XLEN {TOPIC}").split(":")[1].split()[0])
        if not requests <= kept <= requests + in_flight * options.connections:
            scene.fail(f"redis-benchmark was asked for {requests} appends, and the stream has {kept}")
        figures.add(f"{REDIS}, {kind}", **{
            "acks/s": float(row["rps"]), "p50 ms": float(row["p50_latency_ms"]), "p99 ms": float(row["p99_latency_ms"]),
            "CPU us/append": 1e6 * cpu / kept, "cores of the server": cpu / seconds})
        server.ask(f"DEL {TOPIC}")
    server.stop()


if __name__ == "__main__":
    main()
