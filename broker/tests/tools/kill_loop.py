#!/usr/bin/env python3
"""The heart of kill9.sh: kills a broker again and again under load, then checks the histories.

It owns the broker process and the two workloads (history.py: one idempotent, one without retries).
Where a kill hit is read from lines `millstream phase <name> [begin|end]` on the broker's standard error
(recovery begin/end, checkpoint begin/end, roll), which it writes with MILLSTREAM_LOG_PHASES=1.
A broker that writes none (Apache Kafka) is only ever `starting` or `serving`.
"""
import argparse
import collections
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import rawkafka

HERE = os.path.dirname(os.path.abspath(__file__))
# Small rings and segments, so that kills hit checkpoints and rolls.
DEFAULT_BROKER = (os.environ.get("CARGO_TARGET_DIR", "target") + "/release/millstream start --data-dir {data}"
                  " --port {port} --shards 2 --set journal.bytes=8388608 --set journal.direct.min.bytes=8192 --set log.segment.bytes=1048576"
                  " --set message.max.bytes=1000000 --set admin.listen=")
PHASE = re.compile(rb"millstream phase (\w+)(?: (begin|end))?")
START_LIMIT_S = 60
ROLL_SHARE_S = 0.005       # a roll has no end line: a kill this soon after it counts as hitting it
AIM_LIMIT_S = 3.0          # how long a kill that is aimed at a phase waits for it


class Broker:
    """One life of the broker: from its start to its end."""

    def __init__(self, a, log):
        self.a, self.log = a, log
        command = shlex.split(a.broker_command.format(data=a.data, port=a.port))
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE,
                                        env=os.environ | {"MILLSTREAM_LOG_PHASES": "1"}, start_new_session=True)
        self.lines = []                       # (time, phase, begin/end/None)
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready_after = None

    def _read(self):
        for line in self.process.stderr:
            match = PHASE.search(line)
            if match:
                with self.changed:
                    self.lines.append((time.monotonic(), match[1].decode(), match[2] and match[2].decode()))
                    self.changed.notify_all()
            self.log.write(line)

    def wait_ready(self):
        while not serves(self.a.port):
            if self.process.poll() is not None:
                sys.exit(f"the broker ended with {self.process.returncode}, see {self.log.name}")
            if time.monotonic() - self.began > START_LIMIT_S:
                self.kill()
                sys.exit(f"the broker does not serve after {START_LIMIT_S} s, see {self.log.name}")
            time.sleep(0.01)
        self.ready_after = time.monotonic() - self.began

    def wait_phase(self, phase, seconds):
        """Returns when the phase begins, or after `seconds`. Of recovery, there is one in a life."""
        with self.changed:
            until, seen = time.monotonic() + seconds, 0 if phase == "recovery" else len(self.lines)
            while not any(p == phase and edge != "end" for _, p, edge in self.lines[seen:]):
                left = until - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    return

    def kill(self):
        """SIGKILL. Returns the phase that it hit."""
        if self.process.poll() is not None:
            sys.exit(f"the broker ended by itself with {self.process.returncode}, see {self.log.name}")
        self.process.send_signal(signal.SIGKILL)
        died = time.monotonic()
        self.process.wait()
        self.reader.join(5)
        open_phases, roll = [], None
        for at, phase, edge in self.lines:
            if edge == "begin":
                open_phases.append(phase)
            elif edge == "end" and phase in open_phases:
                open_phases.remove(phase)
            elif edge is None:
                roll = at, phase
        if open_phases:
            return open_phases[-1]
        if roll and died - roll[0] < ROLL_SHARE_S:
            return roll[1]
        return "serving" if self.ready_after is not None else "starting"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit("the broker does not end within 60 s of SIGTERM")


def serves(port):
    try:
        cluster = rawkafka.Cluster(f"127.0.0.1:{port}", timeout=2.0)
        try:
            cluster.metadata([])
            return bool(cluster.nodes)
        finally:
            cluster.forget()
    except Exception:   # whatever a half-started broker answers, it does not serve yet
        return False


def workload(a, topic, idempotent):
    path = os.path.join(a.work, f"{topic}.history")
    command = [sys.executable, os.path.join(HERE, "history.py"), "produce", "--brokers", f"127.0.0.1:{a.port}",
               "--topic", topic, "--history", path, "--seconds", "100000", "--stop-file", os.path.join(a.work, "stop"),
               "--producers", str(a.producers), "--partitions", str(a.partitions), "--rate", str(a.rate),
               "--seed", str(a.seed), *(["--idempotent"] if idempotent else [])]
    for setting in a.topic_config:
        command += ["--topic-config", setting]
    return subprocess.Popen(command), path


def check(a, topic, path, idempotent):
    return subprocess.run([sys.executable, os.path.join(HERE, "history.py"), "check", "--brokers",
                           f"127.0.0.1:{a.port}", "--topic", topic, "--history", path,
                           *(["--idempotent"] if idempotent else [])]).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker-command", default=DEFAULT_BROKER, help="with {data} and {port}; must be one process")
    parser.add_argument("--work", required=True, help="an empty directory: data, histories and logs")
    parser.add_argument("--port", type=int, default=29092)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--min-ms", type=int, default=5)
    parser.add_argument("--max-ms", type=int, default=800)
    parser.add_argument("--producers", type=int, default=4, help="of each of the two workloads")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--rate", type=float, default=800, help="records a second of each of the two workloads")
    parser.add_argument("--topic-config", action="append", default=None)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    a.topic_config = ["segment.bytes=1048576"] if a.topic_config is None else a.topic_config
    os.makedirs(a.work, exist_ok=True)
    a.work = os.path.abspath(a.work)
    a.data = os.path.join(a.work, "data")
    if os.path.exists(a.data):
        sys.exit(f"{a.data} exists already")
    rng, log = random.Random(a.seed), open(os.path.join(a.work, "broker.log"), "ab", buffering=0)

    broker = Broker(a, log)
    topics = {"plain": False, "idempotent": True}
    workloads, faults = {}, []
    hits, starts, in_start, known = collections.Counter(), [], 0, set()
    try:
        broker.wait_ready()
        starts.append(broker.ready_after)
        workloads = {topic: workload(a, topic, idempotent) for topic, idempotent in topics.items()}
        time.sleep(1.5)   # topics made, first records acknowledged
        for number in range(a.kills):
            # A quarter of the kills fall into the start; not more than three in a row, so that work goes on.
            if number and in_start < 3 and rng.random() < 0.25:
                in_start += 1
                if "recovery" in known and rng.random() < 0.5:
                    broker.wait_phase("recovery", AIM_LIMIT_S)
                    time.sleep(rng.uniform(0, 0.01))
                else:
                    time.sleep(rng.uniform(0, sorted(starts)[len(starts) // 2]))
            else:
                in_start = 0
                if broker.ready_after is None:
                    broker.wait_ready()
                    starts.append(broker.ready_after)
                aim = rng.choice(["", "", "", "roll", "checkpoint"])
                if aim in known:
                    broker.wait_phase(aim, AIM_LIMIT_S)
                    time.sleep(rng.uniform(0, 0.004))
                else:
                    time.sleep(rng.uniform(a.min_ms, a.max_ms) / 1000)
            hits[broker.kill()] += 1
            known.update(phase for _, phase, _ in broker.lines)
            broker = Broker(a, log)
            for topic, (process, _) in workloads.items():
                if process.poll() is not None:
                    sys.exit(f"the {topic} workload ended with {process.returncode} after kill {number + 1}")
        broker.wait_ready()
        starts.append(broker.ready_after)
        time.sleep(1.0)
        open(os.path.join(a.work, "stop"), "w").close()
        for topic, (process, path) in workloads.items():
            if process.wait(300):
                faults.append(f"{topic}: fatal errors at the clients")
            if check(a, topic, path, topics[topic]):
                faults.append(f"{topic}: the history is not valid")
        status = broker.stop()
        if status not in (0, 143):   # 143: a Java process ended by SIGTERM
            faults.append(f"SIGTERM: exit status {status}")
    finally:
        for process, _ in workloads.values():
            if process.poll() is None:
                process.kill()
        if broker.process.poll() is None:
            broker.process.kill()
    starts.sort()
    print(f"{a.kills} kills: " + ", ".join(f"{count} {phase}" for phase, count in sorted(hits.items()))
          + f"; start to serving: median {starts[len(starts) // 2]:.2f} s, longest {starts[-1]:.2f} s")
    for fault in faults:
        print("FAULT", fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
