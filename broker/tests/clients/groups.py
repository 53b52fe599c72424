#!/usr/bin/env python3
"""A group of three members over six partitions, its members and its broker killed, and the check of what it saw.

  groups.py --brokers B --topic T --group G --assignor A --dir DIR --restart-command CMD -- CLIENT...
        CLIENT is one of this directory (see live.py). While records are being produced: three members start; one is
        killed with -9; another joins; the broker is restarted, then killed with -9 (CMD SIGNAL). Checks that every
        record was read at least once, that the offsets that were committed never went back, and that they end where
        the log ends. And that assignor A shared the partitions out: cooperative-sticky is the other half of the protocol.

Records are produced, and offsets are read, by kafka-python.
"""
import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

PARTITIONS = 6
DEADLINE_S = 90


class Traffic(threading.Thread):
    """Sends a record about every 3 ms; remembers what was acknowledged."""

    def __init__(self, brokers, topic):
        super().__init__(daemon=True)
        self.producer = KafkaProducer(bootstrap_servers=brokers)
        self.topic, self.acked, self.lost, self.ended = topic, [], [], threading.Event()

    def run(self):
        number = 0
        while not self.ended.is_set():
            future = self.producer.send(self.topic, b"%d" % number, partition=number % PARTITIONS)
            future.add_callback(lambda meta: self.acked.append((meta.partition, meta.offset)))
            future.add_errback(lambda error: self.lost.append(error))
            number += 1
            time.sleep(0.003)
        self.producer.flush()


class Commits(threading.Thread):
    """Looks at what the group has committed, and how it shares partitions out, again and again."""

    def __init__(self, brokers, group):
        super().__init__(daemon=True)
        self.brokers, self.group, self.newest, self.faults, self.looks = brokers, group, {}, [], 0
        self.assignors, self.ended = set(), threading.Event()

    def look(self):
        admin = KafkaAdminClient(bootstrap_servers=self.brokers, request_timeout_ms=5000)
        try:
            while not self.ended.is_set():
                for partition, kept in admin.list_group_offsets(self.group)[self.group].items():
                    before = self.newest.get(partition.partition, -1)
                    if kept.offset < before:
                        self.faults.append(f"partition {partition.partition}: {kept.offset} is committed, after {before}")
                    self.newest[partition.partition] = max(before, kept.offset)
                self.assignors |= {admin.describe_groups([self.group])[self.group]["protocol_data"]} - {""}
                self.looks += 1
                time.sleep(0.1)
        finally:
            admin.close()

    def run(self):
        while not self.ended.is_set():
            try:
                self.look()
            except (KafkaError, OSError):
                time.sleep(0.2)


class Group:
    def __init__(self, a):
        self.a, self.members, self.count = a, {}, 0

    def join(self):
        self.count += 1
        name = f"member-{self.count}"
        log = open(os.path.join(self.a.dir, f"{name}.err"), "w")
        path = os.path.join(self.a.dir, name)
        self.members[name] = subprocess.Popen(
            [*self.a.client, "group", self.a.brokers, self.a.topic, self.a.group, path],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        return name

    def kill(self, name):
        os.killpg(self.members.pop(name).pid, signal.SIGKILL)

    def seen(self):
        """Every (partition, offset), by member."""
        seen = {}
        for name in (f"member-{n}" for n in range(1, self.count + 1)):
            try:
                with open(os.path.join(self.a.dir, name)) as file:
                    lines = file.read().split("\n")[:-1]
            except FileNotFoundError:
                lines = []
            seen[name] = [tuple(map(int, line.split())) for line in lines]
        return seen

    def wait_for(self, what, condition):
        until = time.monotonic() + DEADLINE_S
        while not condition():
            for name, member in self.members.items():
                if member.poll() is not None:
                    sys.exit(f"{name} ended with {member.returncode} while waiting for {what}")
            if time.monotonic() > until:
                sys.exit(f"{what}: not within {DEADLINE_S} s")
            time.sleep(0.1)

    def wait_for_progress(self, what, members=None):
        """Until every partition has brought 20 more records, and each of these members some."""
        def counts():
            by_partition, by_member = defaultdict(int), {}
            for name, records in self.seen().items():
                by_member[name] = len(records)
                for partition, _ in records:
                    by_partition[partition] += 1
            return by_partition, by_member
        before, members_before = counts()

        def went_on():
            now, members_now = counts()
            return (all(now[p] >= before[p] + 20 for p in range(PARTITIONS))
                    and all(members_now[m] > members_before.get(m, 0) for m in members or []))
        self.wait_for(what, went_on)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--brokers", "--topic", "--group", "--assignor", "--dir", "--restart-command"):
        parser.add_argument(name, required=True)
    split = sys.argv.index("--")
    a = parser.parse_args(sys.argv[1:split])
    a.client = sys.argv[split + 1:]
    os.makedirs(a.dir, exist_ok=True)
    admin = KafkaAdminClient(bootstrap_servers=a.brokers)
    admin.create_topics([NewTopic(name=a.topic, num_partitions=PARTITIONS, replication_factor=1)])
    admin.close()
    traffic, commits, group = Traffic(a.brokers, a.topic), Commits(a.brokers, a.group), Group(a)
    began = time.monotonic()
    try:
        traffic.start()
        first = [group.join() for _ in range(3)]
        commits.start()
        group.wait_for_progress("three members that share the work", first)
        group.kill(first[0])
        group.wait_for_progress("the others, after one was killed", first[1:])
        fourth = group.join()
        group.wait_for_progress("a fourth member that gets its share", [*first[1:], fourth])
        for name in ("TERM", "KILL"):
            if subprocess.run(f"{a.restart_command} {name}", shell=True, stdout=subprocess.DEVNULL).returncode:
                sys.exit("the restart command failed")
            group.wait_for_progress(f"the group, after the broker got {name}")
        traffic.ended.set()
        traffic.join(DEADLINE_S)
        group.wait_for("every acknowledged record at a member",
                       lambda: set(traffic.acked) <= {r for records in group.seen().values() for r in records})
        ends = {}
        for partition, offset in traffic.acked:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        group.wait_for("the last commits", lambda: commits.newest == ends)
    finally:
        commits.ended.set()
        for member in group.members.values():
            member.terminate()
        for member in group.members.values():
            try:
                member.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(member.pid, signal.SIGKILL)
    read = sum(len(records) for records in group.seen().values())
    faults = [*commits.faults, *(f"a record was not sent: {error!r}" for error in traffic.lost)]
    if commits.assignors != {a.assignor}:
        faults.append(f"partitions were shared out by {sorted(commits.assignors)}, and not by {a.assignor}")
    for fault in faults[:10]:
        print("FAULT", fault, file=sys.stderr)
    print(f"{len(traffic.acked)} records, each read at least once ({read} in all), {commits.looks} looks at the commits, "
          f"{time.monotonic() - began:.0f} s, {len(faults)} faults")
    sys.exit(bool(faults))


main()
