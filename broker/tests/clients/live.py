#!/usr/bin/env python3
"""A producer and a consumer that stay alive over a broker restart, and the check of what they saw.

Every client of this directory is a program with the same commands:

  roundtrip    BROKERS TOPIC CODEC CORPUS OUT   sends CORPUS/all.txt, line n to partition n mod P; reads OUT/part-<p>.txt back
  live-produce BROKERS TOPIC DIR                sends the numbers 0, 1, 2, ... until DIR/stop exists, number n to
                                                partition n mod P; writes "number partition offset" for each
                                                acknowledged one to DIR/acked (offset - where the client hides it)
  live-consume BROKERS TOPIC DIR                writes "partition offset number" for each record to DIR/consumed,
                                                until DIR/stop-consumer exists

  group        BROKERS TOPIC GROUP FILE         joins the group until it is told to end by SIGTERM; writes "partition offset"
                                                for each record to FILE, and commits only what it has written

  live.py restart --brokers B --topic T --dir DIR --restart-command CMD -- CLIENT...
        starts both, restarts the broker in the middle, waits until both go on, and checks that
        nothing acknowledged is lost, nothing comes twice, and each partition's order is kept.
"""
import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict

BEFORE_RECORDS = 500   # consumed before the restart, and again after it
DEADLINE_S = 90


def numbers(dir):
    """0, 1, 2, ... about 300 a second, until DIR/stop exists."""
    stop, number = os.path.join(dir, "stop"), 0
    while not os.path.exists(stop):
        yield number
        number += 1
        time.sleep(0.003)


def command(roundtrip, live_produce, live_consume, group):
    """The commands' common entry."""
    name, args = sys.argv[1], sys.argv[2:]
    {"roundtrip": roundtrip, "live-produce": live_produce, "live-consume": live_consume, "group": group}[name](*args)


def rows(path):
    """Whole lines only: the writer may be in the middle of the last one."""
    try:
        with open(path) as file:
            return [line.split() for line in file.read().split("\n")[:-1]]
    except FileNotFoundError:
        return []


def wait_for(what, condition, processes, seconds=DEADLINE_S):
    until = time.monotonic() + seconds
    while not condition():
        for name, process in processes.items():
            if process.poll() is not None:
                sys.exit(f"the {name} ended with {process.returncode} while waiting for {what}")
        if time.monotonic() > until:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def verify(acked, consumed):
    """Returns the faults. acked: (number, partition, offset); consumed: (partition, offset, number)."""
    faults, log, by_number = [], defaultdict(list), {}
    for partition, offset, number in consumed:
        log[partition].append((int(offset), int(number)))
        if number in by_number:
            faults.append(f"number {number} twice: {by_number[number]} and {(partition, offset)}")
        by_number[number] = (partition, offset)
    for partition, seen in log.items():
        for (offset_a, number_a), (offset_b, number_b) in zip(seen, seen[1:]):
            if offset_b != offset_a + 1:
                faults.append(f"partition {partition}: offset {offset_b} after {offset_a}")
            if number_b <= number_a:
                faults.append(f"partition {partition}: number {number_b} after {number_a}")
    for number, partition, offset in acked:
        if number not in by_number:
            faults.append(f"number {number}, acknowledged at {partition}/{offset}, is lost")
        elif by_number[number] != (partition, offset) and offset != "-":
            faults.append(f"number {number}: acknowledged at {partition}/{offset}, read at {by_number[number]}")
    return faults


def restart(a):
    os.makedirs(a.dir, exist_ok=True)
    for name in ("stop", "stop-consumer", "acked", "consumed"):
        if os.path.exists(os.path.join(a.dir, name)):
            os.remove(os.path.join(a.dir, name))
    processes = {}
    try:
        for name in ("produce", "consume"):
            log = open(os.path.join(a.dir, f"{name}.err"), "w")
            processes[name] = subprocess.Popen([*a.client, f"live-{name}", a.brokers, a.topic, a.dir],
                                               stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        seen = lambda: len(rows(os.path.join(a.dir, "consumed")))
        wait_for("records before the restart", lambda: seen() >= BEFORE_RECORDS, processes)
        if subprocess.run(a.restart_command, shell=True, stdout=subprocess.DEVNULL).returncode:
            sys.exit("the restart command failed")
        at_restart = seen()
        wait_for("records after the restart", lambda: seen() >= at_restart + BEFORE_RECORDS, processes)
        open(os.path.join(a.dir, "stop"), "w").close()
        producer = processes.pop("produce")
        if producer.wait(DEADLINE_S) != 0:
            sys.exit(f"the producer ended with {producer.returncode}")
        acked = rows(os.path.join(a.dir, "acked"))
        wanted = {number for number, _, _ in acked}
        wait_for("every acknowledged record at the consumer",
                 lambda: wanted <= {r[2] for r in rows(os.path.join(a.dir, "consumed"))}, processes, 30)
        open(os.path.join(a.dir, "stop-consumer"), "w").close()
        processes["consume"].wait(DEADLINE_S)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
    consumed = rows(os.path.join(a.dir, "consumed"))
    faults = verify(acked, consumed)
    for fault in faults[:10]:
        print("FAULT", fault, file=sys.stderr)
    print(f"{len(acked)} acknowledged, {at_restart} read before and {len(consumed) - at_restart} after the restart, "
          f"{len(faults)} faults")
    sys.exit(bool(faults))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["restart", "selftest"])
    for name in ("--brokers", "--topic", "--dir", "--restart-command"):
        parser.add_argument(name)
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = parser.parse_args(sys.argv[1:split])
    a.client = sys.argv[split + 1:]
    if a.command == "restart":
        restart(a)
    good = [["0", "0", "1"], ["0", "1", "7"]]
    assert not verify([["1", "0", "0"], ["7", "0", "-"]], good)
    assert "lost" in verify([["9", "0", "2"]], good)[0]
    assert "twice" in verify([], good + [["0", "2", "7"]])[0]
    assert "after" in verify([], [["0", "0", "7"], ["0", "1", "1"]])[0]
    assert "offset 3 after 0" in verify([], [["0", "0", "1"], ["0", "3", "2"]])[0]
    assert "acknowledged at" in verify([["7", "0", "5"]], good)[0]
    print("live: selftest passed")


if __name__ == "__main__":
    main()
