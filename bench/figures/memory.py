#!/usr/bin/env python3
"""Whether a broker stays within its memory, and serves, while very many clients ask for very much.

One shard with many partitions; half of the connections produce; a quarter asks for 50 MiB of a tenth of the partitions at a time and takes
it as it comes; the last quarter asks for as much, and takes 4 KiB a second of it. The peak of the resident set must be below the
budget, of which `memory.bytes` is three quarters: the rest is for what is no buffer. It must not grow, nobody who produces may
fail, and the log's files may have 5,000 descriptors at most. Needs: cargo build --release -p millstream -p millstream-bench, python3.
"""
import os
import pathlib
import re
import resource
import selectors
import socket
import struct
import sys
import threading
import time

import scene
from scene import MIB, begin, bench, finish, say

sys.path.insert(0, str(scene.TOOLS))
import rawkafka  # noqa: E402

FETCH_BYTES, PARTITION_BYTES = 50 * MIB, MIB
SIP_BYTES, SIP_SECONDS = 4096, 1.0


def main():
    options = scene.arguments(__doc__, rounds=1, seconds=60, partitions=10_000, connections=2_000, budget_mib=1024,
                              short={"seconds": 3, "partitions": 200, "connections": 40})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures = scene.Figures()
    asked = []
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds}")
        asked.append(measure(options, figures))
    print(f"{options.partitions:,} partitions, {options.connections:,} connections, {options.seconds} s; "
          f"memory.bytes is {options.budget_mib * 3 // 4} MiB.\n")
    figures.table("what", ["value"])
    must = scene.Asked()
    must.at_most("peak of the resident set, MiB", [one["peak"] for one in asked], options.budget_mib)
    must.at_most("resident set, the last third of the time against the one before", [one["growth"] for one in asked], 1.05)
    must.at_most("descriptors of the log's files", [one["files"] for one in asked], 5_000)
    must.at_most("failures of producers", [one["failures"] for one in asked], 0)
    must.at_least("acks/s, the last third of the time against the one before", [one["kept"] for one in asked], 0.5)
    must.end(options)


def measure(options, figures):
    broker = scene.Millstream(options.data / "millstream", **{"memory.bytes": options.budget_mib * MIB * 3 // 4})
    broker.start()
    load = {"partitions": options.partitions, "acks": "all", "warmup_seconds": 0}
    say("filling")
    bench("produce", broker, "wide", connections=4, in_flight=64, batch_size=16384, seconds=max(2, options.seconds // 4), **load)
    readers = Readers(broker, options)
    readers.start()
    producing = begin("produce", broker, "wide", connections=options.connections // 2, in_flight=1, batch_size=1000,
                      record_size=1000, seconds=options.seconds, **load)
    samples = []
    begun = time.monotonic()
    while producing.poll() is None and time.monotonic() - begun < options.seconds + 60:
        samples.append(sample(broker))
        time.sleep(0.5)
    report = finish(producing)
    readers.stop()
    third = len(samples) // 3
    before, last = samples[third:2 * third], samples[2 * third:]
    rates = [rate for rate, _ in report["curve"]] or [0]
    rates_before, rates_last = rates[len(rates) // 3:2 * len(rates) // 3] or rates, rates[2 * len(rates) // 3:] or rates
    status = pathlib.Path(f"/proc/{broker.pid}/status").read_text("ascii")
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    files = max(files for _, files, _ in samples)
    failures = sum(failure["count"] for failure in report["failures"])
    for line, value in {
        "resident set, peak, MiB": peak, "resident set, at last, MiB": last[-1][0], "descriptors of the log's files": files,
        "sockets": max(sockets for *_, sockets in samples),
        "acks/s": report["requests"] / report["seconds"], "ack p99 ms": report["latency_us"]["p99"] / 1e3,
        "readers: GB taken": readers.taken / 1e9, "readers: connections the broker ended": readers.ended,
        "broker's CPU, cores": report["server_cpu"]["seconds"] / report["seconds"],
    }.items():
        figures.add(line, value=value)
    broker.stop()
    return {"peak": peak, "growth": max(rss for rss, *_ in last) / max(rss for rss, *_ in before), "files": files,
            "failures": failures, "kept": sum(rates_last) / len(rates_last) / max(sum(rates_before) / len(rates_before), 1e-9)}


def sample(broker):
    """Resident MiB, descriptors of files below the data directory, and sockets."""
    status = pathlib.Path(f"/proc/{broker.pid}/status").read_text("ascii")
    rss = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    files = sockets = 0
    for link in pathlib.Path(f"/proc/{broker.pid}/fd").iterdir():
        try:
            target = os.readlink(link)
            files += target.startswith(str(broker.directory.resolve()))
            sockets += target.startswith("socket:")
        except FileNotFoundError:
            pass
    return rss, files, sockets


class Readers(threading.Thread):
    """Half of them take what they get at once, the others sip."""

    def __init__(self, broker, options):
        super().__init__(daemon=True)
        host, port = broker.address.split(":")
        self.address = (host, int(port))
        self.count, self.partitions = options.connections // 2, options.partitions
        self.selector = selectors.DefaultSelector()
        self.taken = self.ended = 0
        self.is_over = False
        self.sippers = []

    def stop(self):
        self.is_over = True
        self.join()

    def run(self):
        for number in range(self.count):
            self.connect(number)
        next_sip = time.monotonic()
        while not self.is_over:
            for key, _ in self.selector.select(0.05):
                self.take(key.data, 1 << 18)
            if time.monotonic() >= next_sip:
                next_sip += SIP_SECONDS
                for reader in list(self.sippers):
                    self.take(reader, SIP_BYTES)

    def connect(self, number):
        reader = Reader(number, self.address, self.request(number))
        if number % 2 == 0:
            self.selector.register(reader.socket, selectors.EVENT_READ, reader)
        else:
            self.sippers.append(reader)

    def request(self, number):
        width = max(self.partitions // 10, 1)
        first = number * width % self.partitions
        entries = [struct.pack(">iiqqi", (first + at) % self.partitions, -1, 0, -1, PARTITION_BYTES) for at in range(width)]
        body = struct.pack(">iiiibii", -1, 500, 1, FETCH_BYTES, 0, 0, -1)
        body += rawkafka.array([rawkafka.string("wide") + rawkafka.array(entries)]) + rawkafka.array([]) + rawkafka.string("")
        frame = struct.pack(">hhi", rawkafka.FETCH, 11, number) + rawkafka.string("memory") + body
        return struct.pack(">i", len(frame)) + frame

    def take(self, reader, most):
        try:
            got = reader.take(most)
        except (ConnectionError, BrokenPipeError):
            self.ended += 1
            if reader.number % 2 == 0:
                self.selector.unregister(reader.socket)
            else:
                self.sippers.remove(reader)
            reader.socket.close()
            self.connect(reader.number)
            return
        self.taken += got


class Reader:
    def __init__(self, number, address, request):
        self.number, self.request = number, request
        self.socket = socket.create_connection(address, 30)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.head, self.left = b"", 0
        self.socket.sendall(request)
        self.socket.setblocking(False)

    def take(self, most):
        try:
            data = self.socket.recv(min(most, self.left) if self.left else 4 - len(self.head))
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("closed")
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            if len(self.head) == 4:
                self.left, self.head = struct.unpack(">i", self.head)[0], b""
            return len(data)
        if self.left == 0:
            self.socket.setblocking(True)
            self.socket.sendall(self.request)
            self.socket.setblocking(False)
        return len(data)


if __name__ == "__main__":
    main()
