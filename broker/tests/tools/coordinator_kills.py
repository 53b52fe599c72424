#!/usr/bin/env python3
"""The heart of coordinator_kills.sh: kills a broker under consumer groups, often with another number of shards after it.

It owns the broker process (kill_loop.py's), the members of the groups (rawgroup.py), and the history of what they were
promised, which logcheck.py checks. Members commit offsets that only grow. Some sleep beyond their session, some rejoin,
and then commit as who they were before: that must be refused. Groups are left by all members and filled again.

Besides logcheck's rules, each of these is a fault:
- a commit taken, or seen, that was made as a member of a generation older than one that the group was already told of,
  or with the id that a static member had before it was replaced (logcheck knows generations of one partition only);
- a commit that was refused, or never sent, and is seen;
- a generation or a committed offset below one that was told before;
- an error code that no such request may have; a group that commits nothing after the last start.
"""
import argparse
import collections
import copy
import json
import os
import random
import sys
import threading
import time

import kill_loop
import logcheck
import rawgroup
import rawkafka
from rawgroup import GroupClient

TOPIC = "coordinated"
# A ring so small that kills hit checkpoints, and sessions short enough to end between two kills.
DEFAULT_BROKER = (os.environ.get("CARGO_TARGET_DIR", "target") + "/release/millstream start --data-dir {data}"
                  " --port {port} --shards {shards} --set journal.bytes=8388608 --set message.max.bytes=1000000"
                  " --set offsets.topic.num.partitions=4"
                  " --set group.min.session.timeout.ms=200 --set group.initial.rebalance.delay.ms=100"
                  " --set admin.listen=")
SESSION_MS, REBALANCE_MS = 800, 2000
HEARTBEAT_S, PAUSE_S = 0.1, 0.04
SLEEP_SHARE, SLEEP_SESSIONS = 0.012, (0.8, 2.5)   # of a member's steps; how long, in session timeouts
LATE_SHARE = 0.5           # of rejoins after which the member commits as who it was before
STEP = 1000                # between two offsets of owners: room for those of members that only think they are
METADATA = "m" * 1500      # of each commit: logs grow to what makes their coordinators snapshot and delete
LIMIT_S = 30               # for anything that must come back after a start
IN_START_SHARE, OTHER_SHARDS_SHARE = 0.25, 0.4
COORDINATOR_AWAY = {rawgroup.COORDINATOR_LOAD_IN_PROGRESS, rawgroup.COORDINATOR_NOT_AVAILABLE, rawgroup.NOT_COORDINATOR}
NOT_A_MEMBER = {rawgroup.ILLEGAL_GENERATION, rawgroup.UNKNOWN_MEMBER_ID, rawgroup.FENCED_INSTANCE_ID}
REFUSED = NOT_A_MEMBER | {rawgroup.REBALANCE_IN_PROGRESS}


class History:
    """Events in the order in which they happened here, and faults that logcheck.py has no rule for."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events, self.faults, self.counts = [], [], collections.Counter()

    def add(self, kind, f, **more):
        event = {"t": round(time.time(), 4), "f": f, "type": kind, **more}
        with self.lock:
            self.events.append(event)
        return event

    def fault(self, text):
        with self.lock:
            self.faults.append(text)

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def write(self, path):
        with self.lock, open(path, "w") as file:
            file.writelines(json.dumps(event, separators=(",", ":")) + "\n" for event in self.events)


class Group:
    """What is known of a group: what was sent, what must never be seen, and what was told."""

    def __init__(self, name, size, partitions, history):
        self.name, self.size, self.partitions, self.history = name, size, partitions, history
        self.lock = threading.Lock()
        self.newest_generation = 0        # of those whose assignment was told
        self.top = dict.fromkeys(range(partitions), 0)
        self.sent = {partition: {-1} for partition in range(partitions)}
        self.never = {partition: {} for partition in range(partitions)}     # offset: why
        self.seen = dict.fromkeys(range(partitions), -1)
        self.acknowledged = 0
        self.away_until, self.left = 0.0, set()

    def next_offset(self, partition):
        with self.lock:
            self.top[partition] += STEP
            return self._sends(partition, self.top[partition])

    def stale_offset(self, partition, last):
        """One that was never sent, just above the last that the member knew: what a late owner would commit."""
        with self.lock:
            offset = last + 1
            while offset in self.sent[partition]:
                offset += 1
            return self._sends(partition, offset)

    def _sends(self, partition, offset):
        self.sent[partition].add(offset)
        return offset

    def told_generation(self, generation):
        with self.lock:
            self.newest_generation = max(self.newest_generation, generation)

    def send_away(self, seconds):
        self.left, self.away_until = set(), time.monotonic() + seconds

    def left_by(self, member):
        with self.lock:
            self.left.add(member)
            if len(self.left) == self.size:
                self.history.count("emptied")

    def must_not_be_seen(self, partition, offset, why):
        with self.lock:
            self.never[partition][offset] = why

    def fetch(self, client):
        """Asks for all committed offsets, writes them down, and compares. Returns {partition: offset}."""
        with self.lock:
            seen = dict(self.seen)
        # An answer counts from when it was asked for: commits acknowledged while it was on its way need not be in it.
        events = {partition: self.history.add("info", "fetch_committed", g=self.name, k=f"{TOPIC}-{partition}")
                  for partition in seen}
        offsets = client.committed(TOPIC, list(seen))
        with self.lock:
            for partition, offset in offsets.items():
                events[partition] |= {"type": "ok", "o": offset}
                where = f"{self.name} {TOPIC}-{partition}: {offset} is committed"
                if offset in self.never[partition]:
                    self.history.fault(f"{where}, {self.never[partition][offset]}")
                if offset not in self.sent[partition]:
                    self.history.fault(f"{where}, which nobody sent")
                if offset < seen[partition]:
                    self.history.fault(f"{where}, after {seen[partition]} was seen")
                self.seen[partition] = max(self.seen[partition], offset)
        self.history.count("fetched")
        return offsets


class Member(threading.Thread):
    """One member, one thread. Its sleeps are also silence: nothing else sends its heartbeats."""

    def __init__(self, a, group, number, instance_id, stop):
        super().__init__(daemon=True)
        self.group, self.history, self.stop, self.name = group, group.history, stop, f"{group.name}/{number}"
        self.random = random.Random(f"{a.seed}/{self.name}")
        self.client = GroupClient(("127.0.0.1", a.port), group.name, instance_id)
        self.member_id, self.generation, self.last = "", -1, {}    # last: offset by partition, of those that it owns

    def run(self):
        while not self.stop.is_set():
            try:
                if self.group.away_until > time.monotonic():
                    self.leave()
                    time.sleep(0.05)
                else:
                    self.live()
            except rawkafka.KafkaError as error:
                if error.code in COORDINATOR_AWAY:
                    self.client.forget()
                elif error.code in NOT_A_MEMBER - {rawgroup.ILLEGAL_GENERATION}:
                    self.member_id = ""
                elif error.code not in REFUSED:
                    self.history.fault(f"{self.name}: {error}")
                time.sleep(0.02)
            except TimeoutError as error:
                self.history.fault(f"{self.name}: no answer for {self.client.timeout} s")
                self.client.forget()
            except OSError:     # the broker was killed
                self.client.forget()
                time.sleep(0.05)
            except Exception as error:
                self.history.fault(f"{self.name}: {type(error).__name__}: {error}")
                self.client.forget()
                time.sleep(0.1)
        self.client.forget()

    def live(self):
        """From a join until the generation ends, which is an error; or until the member leaves or is asked to stop."""
        before = self.member_id, self.generation, dict(self.last)
        self.join_group()
        if before[2] and before[:2] != (self.member_id, self.generation) and self.random.random() < LATE_SHARE:
            self.commit(*before, "made as a member that had been replaced", stale=True)
        self.last = {p: offset for p, offset in self.group.fetch(self.client).items() if p in self.last}
        beat = 0.0
        while not self.stop.is_set() and self.group.away_until < time.monotonic():
            if self.random.random() < SLEEP_SHARE:
                time.sleep(self.random.uniform(*SLEEP_SESSIONS) * SESSION_MS / 1000)
                self.commit(self.member_id, self.generation, self.last, None, stale=True)
                if self.client.instance_id and self.random.random() < 0.5:
                    self.member_id = ""     # as a process that was started again: it replaces who it was
                    return
            if time.monotonic() - beat > HEARTBEAT_S:
                self.client.heartbeat(self.member_id, self.generation)
                beat = time.monotonic()
            if self.last:
                some = self.random.sample(sorted(self.last), self.random.randint(1, len(self.last)))
                self.commit(self.member_id, self.generation, {p: self.last[p] for p in some}, None)
            time.sleep(PAUSE_S)

    def join_group(self):
        with self.group.lock:
            told = self.group.newest_generation
        self.member_id, self.generation, members = self.client.join(self.member_id, [TOPIC], SESSION_MS, REBALANCE_MS)
        if self.generation < told:
            self.history.fault(f"{self.name}: generation {self.generation} after {told} was told")
        self.last = {}
        shares = {member: rawgroup.assignment(TOPIC, range(at, self.group.partitions, len(members)))
                  for at, member in enumerate(members)}
        mine = rawgroup.assigned(self.client.sync(self.member_id, self.generation, shares))
        self.group.told_generation(self.generation)
        self.last = dict.fromkeys(mine, -1)

    def leave(self):
        if self.member_id:
            self.client.leave(self.member_id)
            self.member_id, self.last = "", {}
            self.group.left_by(self.name)

    def commit(self, member_id, generation, last, why_not, stale=False):
        """Commits for the partitions of `last`. `why_not`: the reason if this must be refused."""
        group = self.group
        with group.lock:
            if generation < group.newest_generation:
                why_not = f"made in generation {generation} when {group.newest_generation} had been told"
        offsets = {p: group.stale_offset(p, offset) if stale else group.next_offset(p) for p, offset in last.items()}
        if why_not:
            for partition, offset in offsets.items():
                group.must_not_be_seen(partition, offset, why_not)
        elif generation == self.generation:
            self.last |= offsets
        events = {p: {"p": self.name, "g": group.name, "k": f"{TOPIC}-{p}", "o": offset, "gen": generation,
                      "old": bool(why_not)} for p, offset in offsets.items()}
        for event in events.values():
            self.history.add("invoke", "commit", **event)
        codes = {}
        try:
            codes = self.client.commit(member_id, generation, TOPIC, offsets, METADATA) if offsets else {}
        finally:
            for partition, event in events.items():
                self.answered(partition, event, codes.get(partition), why_not)
        for code in codes.values():
            # What a commit of another identity is told says nothing of who this member is now.
            if (member_id, generation) == (self.member_id, self.generation):
                rawkafka.check(f"OffsetCommit {group.name}", code)
            elif code in COORDINATOR_AWAY:
                raise rawkafka.KafkaError(f"OffsetCommit {group.name}", code)

    def answered(self, partition, event, code, why_not):
        group, where = self.group, f"{event['g']} {event['k']}: offset {event['o']} of generation {event['gen']}"
        if code is None or code in COORDINATOR_AWAY:
            self.history.add("info", "commit", **event, code=code)
            self.history.count("unknown")
        elif code == 0:
            self.history.add("ok", "commit", **event)
            self.history.count("acknowledged")
            group.acknowledged += 1
            if why_not:
                self.history.fault(f"{where} was taken, {why_not}")
        elif code in REFUSED:
            self.history.add("fail", "commit", **event, code=code)
            self.history.count(f"old refused with {code}" if why_not else "refused")
            group.must_not_be_seen(partition, event["o"], f"which was refused with {code}")
        else:
            self.history.add("info", "commit", **event, code=code)
            self.history.fault(f"{where}: error code {code}")


class Reader:
    """Fetches every committed offset, as somebody who is no member."""

    def __init__(self, a, groups):
        self.clients = [(group, GroupClient(("127.0.0.1", a.port), group.name)) for group in groups]

    def read(self):
        """Waits until the coordinators have loaded; a broker that lives must answer within LIMIT_S."""
        until = time.monotonic() + LIMIT_S
        for group, client in self.clients:
            while True:
                try:
                    group.fetch(client)
                    break
                except (OSError, rawkafka.KafkaError) as error:
                    client.forget()
                    if isinstance(error, rawkafka.KafkaError) and error.code not in COORDINATOR_AWAY:
                        raise
                    if time.monotonic() > until:
                        sys.exit(f"{group.name}: committed offsets cannot be fetched after {LIMIT_S} s: {error}")
                    time.sleep(0.02)


class Lives:
    """The broker from one life to the next, with its number of shards."""

    def __init__(self, a, log, rng):
        self.a, self.log, self.rng = a, log, rng
        self.shards, self.other_shards, self.starts = min(2, a.shards), 0, []
        self.broker = self.start()

    def start(self):
        command = self.a.broker_command.replace("{shards}", str(self.shards))
        return kill_loop.Broker(argparse.Namespace(**vars(self.a) | {"broker_command": command}), self.log)

    def wait_ready(self):
        if self.broker.ready_after is None:
            self.broker.wait_ready()
            self.starts.append(self.broker.ready_after)

    def stop(self, history):
        status = self.broker.stop()
        if status not in (0, 143):   # 143: a Java process ended by SIGTERM
            history.fault(f"SIGTERM: exit status {status}")

    def again(self, may_change):
        """After its end. With `may_change` it sometimes has another number of shards."""
        others = [n for n in range(1, self.a.shards + 1) if n != self.shards]
        if others and may_change and self.rng.random() < OTHER_SHARDS_SHARE:
            self.shards = self.rng.choice(others)
            self.other_shards += 1
        self.broker = self.start()


def must_be_found(events):
    """This very history, spoilt in the two ways that it is about: a checker that takes it checks nothing."""
    commits = [e for e in events if e["f"] == "commit" and e["type"] == "ok"]
    last = commits[-1]
    spoilt = {
        "zombie-commit-accepted": last | {"o": last["o"] + 1, "gen": last["gen"] - 1},
        "committed-offset-regressed": {"f": "fetch_committed", "type": "ok", "g": last["g"], "k": last["k"],
                                       "o": last["o"] - 1},
    }
    return [f"logcheck.py does not find {kind}" for kind, event in spoilt.items()
            if kind not in logcheck.check(copy.deepcopy(events) + [event])]


def wait_progress(groups, history):
    """After the last start every group commits again."""
    before, until = [group.acknowledged for group in groups], time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if all(group.acknowledged > old for group, old in zip(groups, before)):
            return
        time.sleep(0.05)
    for group, old in zip(groups, before):
        if group.acknowledged == old:
            history.fault(f"{group.name} commits nothing for {LIMIT_S} s after the last start")


def shortened_logs(a):
    """How many partitions of __consumer_offsets begin later than at 0, and of how many."""
    cluster = rawkafka.Cluster(f"127.0.0.1:{a.port}")
    logs = cluster.partitions("__consumer_offsets")
    starts = [cluster.list_offset("__consumer_offsets", log, rawkafka.EARLIEST) for log in logs]
    cluster.forget()
    return f"{sum(start > 0 for start in starts)} of {len(logs)}"


def run(a, lives, groups, members, history):
    rng, reader, hits, in_start = lives.rng, Reader(a, groups), collections.Counter(), 0
    lives.wait_ready()
    cluster = rawkafka.Cluster(f"127.0.0.1:{a.port}")
    cluster.retry(lambda: cluster.create_topic(TOPIC, a.partitions))
    cluster.forget()
    for member in members:
        member.start()
    time.sleep(1.0)     # the first generations
    for number in range(a.kills):
        # A quarter of the kills fall into the start, with loads; not more than three in a row, so that work goes on.
        if number and in_start < 3 and rng.random() < IN_START_SHARE:
            in_start += 1
            time.sleep(rng.uniform(0, 1.5 * sorted(lives.starts)[len(lives.starts) // 2]))
        else:
            in_start = 0
            lives.wait_ready()
            reader.read()
            if rng.random() < 0.3:
                rng.choice(groups).send_away(0.8)
            time.sleep(rng.uniform(0.02, 2 * a.seconds / a.kills))
        hits[lives.broker.kill()] += 1
        lives.again(may_change=True)
    lives.wait_ready()
    reader.read()
    wait_progress(groups, history)
    return reader, hits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-command", default=DEFAULT_BROKER, help="with {data}, {port} and {shards}; must be one process")
    parser.add_argument("--work", required=True, help="an empty directory: data, history and log")
    parser.add_argument("--port", type=int, default=21092)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="how long the broker serves, between all kills; 1.5 for each by default")
    parser.add_argument("--shards", type=int, default=3, help="at most")
    parser.add_argument("--groups", type=int, default=8, help="of two or three members")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    a.seconds = 1.5 * a.kills if a.seconds is None else a.seconds
    os.makedirs(a.work, exist_ok=True)
    a.work = os.path.abspath(a.work)
    a.data = os.path.join(a.work, "data")
    if os.path.exists(a.data):
        sys.exit(f"{a.data} exists already")
    history, stop = History(), threading.Event()
    groups = [Group(f"group-{n}", 2 + n % 2, a.partitions, history) for n in range(a.groups)]
    # Of each second pair of groups one member is static.
    members = [Member(a, group, n, f"{group.name}-static" if at % 4 > 1 and n == 0 else None, stop)
               for at, group in enumerate(groups) for n in range(group.size)]
    lives = Lives(a, open(os.path.join(a.work, "broker.log"), "ab", buffering=0), random.Random(a.seed))
    path, began = os.path.join(a.work, "history"), time.monotonic()
    try:
        reader, hits = run(a, lives, groups, members, history)
        stop.set()
        for member in members:
            member.join(LIMIT_S)
            if member.is_alive():
                history.fault(f"{member.name} does not end {LIMIT_S} s after it was asked to")
        reader.read()
        for number in range(1, a.shards + 1):     # in peace, with each number of shards
            lives.stop(history)
            lives.shards, lives.other_shards = number, lives.other_shards + (number != lives.shards)
            lives.again(may_change=False)
            lives.wait_ready()
            reader.read()
        shortened = shortened_logs(a)
        lives.stop(history)
    finally:
        stop.set()
        if lives.broker.process.poll() is None:
            lives.broker.process.kill()
        history.write(path)
    faults = [f"{kind}: {len(cases)}, {cases[:3]}" for kind, cases in sorted(logcheck.check(history.events).items())]
    faults += must_be_found(history.events) + history.faults
    counts, starts = history.counts, sorted(lives.starts)
    old = {what.rsplit(" ", 1)[1]: number for what, number in counts.items() if what.startswith("old refused")}
    if not old:
        faults.append("no commit of an old generation was refused: nothing was shown")
    print(f"seed {a.seed}: {a.kills} kills in {time.monotonic() - began:.0f} s: "
          + ", ".join(f"{count} {phase}" for phase, count in sorted(hits.items()))
          + f"; {lives.other_shards} restarts with another number of shards; start to serving: "
          + f"median {starts[len(starts) // 2]:.2f} s, longest {starts[-1]:.2f} s")
    print(f"{counts['acknowledged']} commits acknowledged in up to {max(g.newest_generation for g in groups)} generations of a group, "
          f"{counts['unknown']} unknown, {sum(old.values())} of an old generation refused ("
          + ", ".join(f"code {code}: {number}" for code, number in sorted(old.items()))
          + f"), {counts['refused']} others refused; all offsets fetched {counts['fetched']} times; groups left by all: {counts['emptied']}; "
          f"logs whose beginning a snapshot replaced: {shortened}")
    for fault in faults[:40]:
        print("FAULT", fault)
    print(f"{path}: {len(history.events)} events, {f'{len(faults)} faults, INVALID' if faults else 'VALID'}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
