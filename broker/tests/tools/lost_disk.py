#!/usr/bin/env python3
"""A topic in two log directories, one of which goes away.

  lost_disk.py --brokers HOST:PORT --state FILE fill           creates the topic, and writes to every partition
  lost_disk.py --brokers HOST:PORT --state FILE freeze MOUNT   stops the file system for a while: a half goes on meanwhile, and
                                                               then all of it
  lost_disk.py --brokers HOST:PORT --state FILE lose MOUNT     shuts the file system down while it writes: a half goes on
  lost_disk.py --brokers HOST:PORT --state FILE half           that half can be written, and the other cannot
  lost_disk.py --brokers HOST:PORT --state FILE whole          all can be, and what was acknowledged is there
Standard library only.
"""
import argparse
import fcntl
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time

from rawkafka import LATEST, Cluster, KafkaError, encode_batch

TOPIC, PARTITIONS = "orders", 8
STORAGE_ERROR, NO_LEADER = 56, 5
# Twice the journals of a directory, 8 MiB for each of two shards, with four partitions of 20 kB batches.
FROZEN_ROUNDS = 450
# _IOR('X', 125, __u32) of ext4 and xfs: every call fails from then on; 2: without writing its journal first.
SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2


def value(partition, number):
    return random.Random(partition << 32 | number).randbytes(20_000)


def write(cluster, state, partition):
    """One more batch; whether it is acknowledged. An error is the storage's, or that nobody leads it."""
    number = state["next"][partition]
    try:
        cluster.produce(TOPIC, partition, encode_batch([value(partition, number)]))
    except KafkaError as error:
        if error.code not in (STORAGE_ERROR, NO_LEADER):
            raise
        return False
    # What was not acknowledged may be there all the same: the next one has another number.
    state["acknowledged"][partition].append(number)
    return True


def one_of_each(cluster, state):
    """Which partitions take a batch."""
    taking = []
    for partition in range(PARTITIONS):
        if write(cluster, state, partition):
            taking.append(partition)
        state["next"][partition] += 1
    return taking


def fill(cluster, state, _mount):
    cluster.create_topic(TOPIC, PARTITIONS)
    state["next"], state["acknowledged"] = [0] * PARTITIONS, [[] for _ in range(PARTITIONS)]
    for _ in range(60):
        if len(one_of_each(cluster, state)) < PARTITIONS:
            sys.exit("a partition takes nothing, and no disk is lost")


def brokers_of(cluster):
    return ",".join(f"{host}:{port}" for host, port in cluster.bootstrap)


def halves(mount):
    """The partitions on the disk, and the others."""
    on_disk = {int(name.rsplit("-", 1)[1]) for name in os.listdir(f"{mount}/log") if name.startswith(f"{TOPIC}-")}
    return sorted(on_disk), sorted(set(range(PARTITIONS)) - on_disk)


def freeze(cluster, state, mount):
    # Segments are made when the journal is copied: until then a partition has no directory.
    deadline = time.monotonic() + 20
    while len(halves(mount)[0]) < PARTITIONS // 2:
        one_of_each(cluster, state)
        if time.monotonic() > deadline:
            sys.exit("no segments are made")
    on_disk, others = halves(mount)
    subprocess.run(["fsfreeze", "--freeze", mount], check=True)
    waiting = [threading.Thread(target=write, args=(Cluster(brokers_of(cluster)), state, partition))
               for partition in on_disk]
    try:
        for thread in waiting:
            thread.start()
        # More than the journals of the other directory hold: segments and checkpoints are made meanwhile.
        for _ in range(FROZEN_ROUNDS):
            for partition in others:
                if not write(cluster, state, partition):
                    sys.exit(f"partition {partition} takes nothing while another disk stands still")
                state["next"][partition] += 1
        if not any(thread.is_alive() for thread in waiting):
            sys.exit("the disk does not stand still")
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mount], check=True)
    for thread in waiting:
        thread.join()
    for partition in on_disk:
        state["next"][partition] += 1
    if len(one_of_each(cluster, state)) < PARTITIONS:
        sys.exit("a partition takes nothing after the disk went on")


def lose(cluster, state, mount):
    directory = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    os.close(directory)
    rounds = [one_of_each(cluster, state) for _ in range(100)]
    state["left"] = rounds[-1]
    if len(state["left"]) != PARTITIONS // 2 or any(set(taking) < set(state["left"]) for taking in rounds):
        sys.exit(f"after the disk was lost, these take batches: {rounds[0]}, .. {state['left']}")
    told(cluster, state)


def told(cluster, state):
    """Metadata says who is offline."""
    deadline = time.monotonic() + 20
    while True:
        partitions = cluster.metadata([TOPIC])[TOPIC][1]
        left = [number for number in sorted(partitions) if partitions[number][1] >= 0]
        if left == state["left"]:
            return
        if time.monotonic() > deadline:
            sys.exit(f"Metadata names leaders of {left}, and {state['left']} take batches")
        time.sleep(0.1)


def half(cluster, state, _mount):
    taking = one_of_each(cluster, state)
    if taking != state["left"]:
        sys.exit(f"{taking} take batches, and {state['left']} should")
    told(cluster, state)


def whole(cluster, state, _mount):
    taking = one_of_each(cluster, state)
    if len(taking) < PARTITIONS:
        sys.exit(f"only {taking} take batches, and the disk is back")
    for partition in range(PARTITIONS):
        there = set()
        for batch in cluster.batches(TOPIC, partition, 0, cluster.list_offset(TOPIC, partition, LATEST)):
            there.update(bytes(record[-1]) for record in batch.records())
        missing = [number for number in state["acknowledged"][partition] if value(partition, number) not in there]
        if missing:
            sys.exit(f"partition {partition}: acknowledged and lost: {missing}")
    counts = [len(numbers) for numbers in state["acknowledged"]]
    print(f"{sum(counts)} acknowledged batches of {PARTITIONS} partitions are there: {counts}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("what", choices=["fill", "freeze", "lose", "half", "whole"])
    parser.add_argument("mount", nargs="?")
    arguments = parser.parse_args()
    state = json.loads(arguments.state.read_text()) if arguments.state.exists() else {}
    steps = {"fill": fill, "freeze": freeze, "lose": lose, "half": half, "whole": whole}
    steps[arguments.what](Cluster(arguments.brokers), state, arguments.mount)
    arguments.state.write_text(json.dumps(state))


main()
