#!/usr/bin/env python3
"""A workload that writes down what it was promised, for logcheck.py to check. Needs confluent-kafka (clients/venv.sh).

  history.py produce --brokers B --topic T --history FILE [--seconds N] [--stop-file F] [--producers N]
             [--partitions N] [--idempotent] [--rate N] [--max-bytes N] [--recorder-log FILE] [--topic-config K=V]...
        acks=all producers and one consumer, alive over broker restarts, until the time is over or F exists.
        Not idempotent means no retries either: a record whose fate is unknown is written down as "info" and
        never sent again, so duplicates are faults in both modes. Order is checked for idempotent producers only:
        without, librdkafka may itself reorder what it had not yet sent when a connection breaks.
  history.py check   --brokers B --topic T --history FILE [--idempotent] [--cut N]
        reads every partition from its beginning, adds that to the history and checks it with logcheck.py
        (final, dense). With --cut only promises made when the recorder had at most N entries count, and
        the history file is left as it is.

Format: logcheck.py. Besides, "n" on acknowledgements and polls is the recorder's number of entries
(u64 at byte 16 of a dm-log-writes log, --recorder-log) when the promise had been seen.
Each value is `<topic>/<partition>/<v>;` and filling that follows from v, checked whole when it is read.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

import logcheck

# Values are producer number * VALUES_EACH + sequence, so they are unique in a topic.
VALUES_EACH = 10**9
# A producer sends no more while this many records are unanswered: it bounds what a long outage piles up.
OUTSTANDING_LIMIT = 500
# How long an idempotent producer, or the final flush, waits for a broker that is away.
OUTAGE_S = 120
CORRUPT = -1


def value_bytes(topic, partition, v, size):
    head = b"%s/%d/%d;" % (topic.encode(), partition, v)
    filling = b"%08x." % (v * 2654435761 & 0xFFFFFFFF)
    return head + filling * (max(size - len(head), 0) // len(filling))


def value_of(topic, message):
    """The number inside a record, or CORRUPT when any of its bytes is not what was sent."""
    raw = message.value() or b""
    head, _, _ = raw.partition(b";")
    try:
        v = int(head.rsplit(b"/", 1)[1])
    except (IndexError, ValueError):
        return CORRUPT
    return v if raw == value_bytes(topic, message.partition(), v, len(raw)) else CORRUPT


class History:
    """One line for each event, in the order in which they happened here."""

    def __init__(self, path, recorder_log=None):
        self.file = open(path, "a", buffering=1 << 16)
        self.lock = threading.Lock()
        self.recorder = os.open(recorder_log, os.O_RDONLY) if recorder_log else None
        self.counts = {}

    def entries(self):
        return struct.unpack("<Q", os.pread(self.recorder, 8, 16))[0]

    def add(self, event, promise=False):
        event["t"] = round(time.time(), 4)
        if promise and self.recorder is not None:
            event["n"] = self.entries()
        line = json.dumps(event, separators=(",", ":")) + "\n"
        with self.lock:
            self.file.write(line)
            key = event["f"], event["type"]
            self.counts[key] = self.counts.get(key, 0) + 1

    def close(self):
        with self.lock:
            self.file.close()


def client_settings(brokers):
    # Quick to come back: the broker is away often in these tests.
    return {"bootstrap.servers": brokers, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
            "topic.metadata.refresh.interval.ms": 5000, "log_level": 0}


class Sender(threading.Thread):
    """One producer. After a fatal error, which a sound broker never causes, another one takes over."""

    def __init__(self, a, number, history, stop):
        super().__init__(daemon=True)
        self.a, self.history, self.stop = a, history, stop
        self.p = number
        self.random = random.Random(f"{a.seed}/{number}")
        self.outstanding = 0
        self.fatal = None

    def make(self):
        settings = client_settings(self.a.brokers) | {"acks": "all", "linger.ms": 3, "error_cb": self.on_error}
        if self.a.idempotent:
            settings |= {"enable.idempotence": True, "message.timeout.ms": OUTAGE_S * 1000, "retry.backoff.ms": 20}
        else:
            settings |= {"message.send.max.retries": 0, "message.timeout.ms": 10_000}
        return Producer(settings)

    def on_error(self, error):
        if error.fatal():
            self.fatal = str(error)

    def run(self):
        producer, v = self.make(), self.p * VALUES_EACH
        pause, due = self.a.producers / self.a.rate, time.monotonic()
        while not self.stop.is_set():
            if self.fatal:
                self.history.add({"f": "fatal", "type": "info", "p": self.p, "error": self.fatal})
                print(f"producer {self.p}: fatal: {self.fatal}", file=sys.stderr)
                producer.flush(5)
                self.fatal, self.p = None, self.p + 1000
                producer, v = self.make(), self.p * VALUES_EACH
            if self.outstanding < OUTSTANDING_LIMIT:
                self.send(producer, v)
                v += 1
            due = max(due + pause, time.monotonic() - 1.0)
            while (left := due - time.monotonic()) > 0:
                producer.poll(left)
            producer.poll(0)
        producer.flush(OUTAGE_S)

    def send(self, producer, v):
        partition = self.random.randrange(self.a.partitions)
        size = int(20 * (self.a.max_bytes / 20) ** self.random.random() ** 2)   # mostly small ones
        event = {"p": self.p, "f": "send", "k": f"{self.a.topic}-{partition}", "v": v}

        def delivered(error, message):
            self.outstanding -= 1
            if error:
                self.history.add(event | {"type": "info", "error": error.name()})
            else:
                self.history.add(event | {"type": "ok", "o": message.offset()}, promise=True)

        self.history.add(event | {"type": "invoke"})
        self.outstanding += 1
        try:
            producer.produce(self.a.topic, value_bytes(self.a.topic, partition, v, size), partition=partition,
                             on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            self.outstanding -= 1
            self.history.add(event | {"type": "fail", "error": str(error)})


def consumer(brokers, topic, partitions):
    made = Consumer(client_settings(brokers) | {
        "group.id": "history", "enable.auto.commit": False, "auto.offset.reset": "error", "check.crcs": True,
        "enable.partition.eof": True, "fetch.wait.max.ms": 200})
    made.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    return made


def watch(a, history, stop):
    """The consumer beside the producers: what it saw once must stay."""
    reader = consumer(a.brokers, a.topic, range(a.partitions))
    last_marks, first = 0.0, True
    while not stop.is_set():
        messages = [m for m in reader.consume(500, 0.2)]
        for m in messages:
            # An offset out of range means that records are gone which this consumer has seen.
            if m.error() is not None and m.error().code() == KafkaError._AUTO_OFFSET_RESET:
                history.add({"f": "out-of-range", "type": "info", "k": f"{a.topic}-{m.partition()}", "error": str(m.error())})
                print(f"consumer: {m.error()}", file=sys.stderr)
        seen = [[f"{a.topic}-{m.partition()}", m.offset(), value_of(a.topic, m)] for m in messages if m.error() is None]
        if seen:
            history.add({"f": "poll", "type": "ok", "p": 999_999, "iso": "ru", "reset": first, "msgs": seen}, promise=True)
            first = False
        if time.monotonic() - last_marks > 1.0:
            last_marks = time.monotonic()
            for p in range(a.partitions):
                _, high = reader.get_watermark_offsets(TopicPartition(a.topic, p), cached=True)
                if high > 0:
                    history.add({"f": "hw", "type": "ok", "k": f"{a.topic}-{p}", "node": 0, "hw": high})
    reader.close()


def produce(a):
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([sys.executable, os.path.join(here, "rawkafka.py"), "--brokers", a.brokers, "create", a.topic,
                    str(a.partitions), *a.topic_config], check=True)
    # Apache Kafka answers before each partition has its leader. An idempotent batch refused then, while the next one is
    # taken, ends as a duplicate that was never written, and librdkafka reports it as delivered. Not what we look for.
    subprocess.run([sys.executable, os.path.join(here, "rawkafka.py"), "--brokers", a.brokers, "offsets", a.topic],
                   check=True, stdout=subprocess.DEVNULL)
    history, stop, stop_watch = History(a.history, a.recorder_log), threading.Event(), threading.Event()
    senders = [Sender(a, n + 1, history, stop) for n in range(a.producers)]
    watcher = threading.Thread(target=watch, args=(a, history, stop_watch), daemon=True)
    for thread in [*senders, watcher]:
        thread.start()
    until = time.monotonic() + a.seconds
    while time.monotonic() < until and not (a.stop_file and os.path.exists(a.stop_file)):
        time.sleep(0.1)
    stop.set()
    for sender in senders:
        sender.join(OUTAGE_S + 10)
    time.sleep(0.5)   # what was acknowledged last also reaches the watching consumer
    stop_watch.set()
    watcher.join(30)
    history.close()
    count = lambda f, kind: history.counts.get((f, kind), 0)
    fatal = count("fatal", "info") + count("out-of-range", "info")
    print(f"{a.topic}: {count('send', 'invoke')} sent, {count('send', 'ok')} acknowledged, "
          f"{count('send', 'info')} unknown, {count('send', 'fail')} refused, {fatal} fatal errors")
    sys.exit(1 if fatal else 0)


def read_all(a):
    """Poll events of every record from the beginning to the end; the first one is there even if nothing is left."""
    last_read = {"f": "poll", "type": "ok", "p": 1_000_000, "iso": "rc", "final": True}
    yield last_read | {"reset": True, "msgs": [], "t": time.time()}
    reader = Consumer(client_settings(a.brokers) | {"group.id": "history-check"})
    # A broker that has just started may not know the topic for a moment.
    until, partitions = time.monotonic() + 15, []
    while not partitions and time.monotonic() < until:
        partitions = sorted(reader.list_topics(a.topic, 30).topics[a.topic].partitions)
    reader.close()
    if not partitions:
        return
    reader = consumer(a.brokers, a.topic, partitions)
    at_end, last = set(), time.monotonic()
    while at_end != set(partitions):
        messages = reader.consume(2000, 1.0)
        if messages:
            last = time.monotonic()
        elif time.monotonic() - last > 30:
            sys.exit(f"{a.topic}: the read stands still; at the end of {sorted(at_end)}")
        seen = []
        for m in messages:
            if m.error() is None:
                seen.append([f"{a.topic}-{m.partition()}", m.offset(), value_of(a.topic, m)])
            elif m.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(m.partition())
            elif not m.error().retriable():
                sys.exit(f"{a.topic}-{m.partition()}: {m.error()}")
        if seen:
            yield last_read | {"reset": False, "msgs": seen, "t": time.time()}
    reader.close()


def before_cut(events, cut):
    """What the world knew when the power went: later acknowledgements become unknown, later polls never were."""
    for event in events:
        if event["f"] == "send" and event["type"] == "ok" and event["n"] > cut:
            event = {k: v for k, v in event.items() if k != "o"} | {"type": "info"}
        elif event["f"] == "hw" or event["f"] == "poll" and event["n"] > cut:
            continue
        yield event


def check(a):
    final = list(read_all(a))
    with open(a.history) as file:
        events = [json.loads(line) for line in file]
    if a.cut is not None:
        events = list(before_cut(events, a.cut))
    else:
        with open(a.history, "a") as file:
            file.writelines(json.dumps(e, separators=(",", ":")) + "\n" for e in final)
    faults = logcheck.check(events + final, idem=True, dense=True, final=True)
    if not a.idempotent:
        faults.pop("reordered", None)
    acked = sum(e["f"] == "send" and e["type"] == "ok" for e in events)
    read = sum(len(e["msgs"]) for e in final)
    for kind, cases in sorted(faults.items()):
        print("FAULT", kind, len(cases), cases[:3])
    print(f"{a.topic}: {acked} acknowledged, {read} read, {'INVALID' if faults else 'VALID'}")
    sys.exit(bool(faults))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["produce", "check"])
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--history", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--stop-file")
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--idempotent", action="store_true")
    parser.add_argument("--rate", type=float, default=400, help="records a second, of all producers")
    parser.add_argument("--max-bytes", type=int, default=40_000)
    parser.add_argument("--recorder-log")
    parser.add_argument("--topic-config", action="append", default=[])
    parser.add_argument("--seed", default="1")
    parser.add_argument("--cut", type=int)
    a = parser.parse_args()
    produce(a) if a.command == "produce" else check(a)


if __name__ == "__main__":
    main()
