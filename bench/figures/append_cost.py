#!/usr/bin/env python3
"""What an append costs against how much the log holds already: instructions, system calls and bytes written for each batch.

One partition, one batch of 16 KiB in flight, acks=all with a flush; on a new log, and when it holds so many GB. Instructions are callgrind's,
of the whole process; system calls are strace's, without those of the kernel's own threads; bytes are what the process had written
to the disk, journal and segments. Needs: cargo build --release -p millstream -p millstream-bench, python3, valgrind, strace, cc.
"""
import pathlib
import re
import signal
import subprocess

import scene
from scene import MIB, bench, say

LOAD = {"partitions": 1, "connections": 1, "in_flight": 1, "batch_size": 16384, "record_size": 1024}
COUNTED = ["instructions", "system calls", "bytes written"]


def main():
    options = scene.arguments(__doc__, gigabytes="0,1,20", seconds=20, short={"gigabytes": "0,0.1", "seconds": 1})
    preload = options.data / "ring_poll.so"
    source = pathlib.Path(__file__).with_name("ring_poll.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", preload, source, "-ldl"], check=True)
    figures = scene.Figures()
    broker = scene.Millstream(options.data / "millstream")
    sizes = [float(size) for size in options.gigabytes.split(",")]
    for gigabytes in sizes:
        broker.start()
        fill(broker, gigabytes)
        figures.add(name(gigabytes), **{"GB at first": size(broker) / 1e9, **written(broker, options), **called(broker, options)})
        broker.stop()
        figures.add(name(gigabytes), **instructions(broker, preload, options))
    print("Each batch: 16 KiB, alone in flight, flushed.\n")
    figures.table("log", ["GB at first", *COUNTED])
    asked = scene.Asked()
    for counted in COUNTED:
        for gigabytes in sizes[1:]:
            asked.at_most(f"{counted}, {name(gigabytes)} against {name(sizes[0])}",
                          figures.ratio(counted, name(gigabytes), name(sizes[0])), 1.05)
    asked.end(options)


def name(gigabytes):
    return f"{gigabytes:g} GB"


def size(broker):
    return sum(path.stat().st_blocks * 512 for path in (broker.directory / "data").glob("log-*/*.log"))


def fill(broker, gigabytes):
    say(f"writing up to {gigabytes:g} GB")
    while size(broker) < gigabytes * 1e9:
        bench("produce", broker, "log", partitions=1, connections=1, in_flight=16, batch_size=MIB, record_size=16384, seconds=1,
              warmup_seconds=0)


def written(broker, options):
    say("bytes")
    bench("produce", broker, "log", seconds=1, warmup_seconds=0, **LOAD)

    def bytes_written():
        return int(re.search(r"^write_bytes: (\d+)", pathlib.Path(f"/proc/{broker.pid}/io").read_text("ascii"), re.M)[1])

    before = bytes_written()
    report = bench("produce", broker, "log", seconds=options.seconds, warmup_seconds=0, **LOAD)
    return {"bytes written": (bytes_written() - before) / report["requests"]}


def called(broker, options):
    say("system calls")
    counts = broker.directory / "calls.txt"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", counts, "-p", str(broker.pid)], stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()  # it is attached
    report = bench("produce", broker, "log", seconds=options.seconds, warmup_seconds=0, **LOAD)
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    calls = int(re.search(r"(\d+) +(?:\d+ +)?total$", counts.read_text("ascii"), re.M)[1])
    return {"system calls": calls / report["requests"]}


def instructions(broker, preload, options):
    say("instructions")
    for old in broker.directory.glob("callgrind.*"):
        old.unlink()
    broker.under = ["env", f"LD_PRELOAD={preload.resolve()}", "valgrind", "--tool=callgrind", "--instr-atstart=no", "-q",
                    f"--callgrind-out-file={broker.directory.resolve()}/callgrind.out"]
    broker.start()
    broker.under = []
    bench("produce", broker, "log", seconds=3, warmup_seconds=0, **LOAD)
    control(broker, "-i", "on")
    report = bench("produce", broker, "log", seconds=options.seconds, warmup_seconds=0, **LOAD)
    control(broker, "-i", "off")
    control(broker, "-d")
    broker.stop()
    totals = [re.search(r"^totals: (\d+)", path.read_text("utf-8"), re.M) for path in broker.directory.glob("callgrind.out*")]
    counted = sum(int(total[1]) for total in totals if total)
    return {"instructions": counted / report["requests"]}


def control(broker, *words):
    subprocess.run(["callgrind_control", *words, str(broker.pid)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
