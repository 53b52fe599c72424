"""confluent-kafka (librdkafka) with its usual settings, idempotent. Commands: see live.py."""
import os
import signal
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

import live

STALL_S = 60


def producer(brokers, codec):
    return Producer({"bootstrap.servers": brokers, "compression.type": codec, "enable.idempotence": True,
                     "linger.ms": 20})


def consumer(brokers, topic):
    made = Consumer({"bootstrap.servers": brokers, "group.id": "assigned-only", "enable.auto.commit": False,
                     "enable.partition.eof": True, "check.crcs": True})
    partitions = sorted(made.list_topics(topic, 30).topics[topic].partitions)
    made.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    return made, partitions


def roundtrip(brokers, topic, codec, corpus, out):
    failures = []

    def delivered(error, message):
        if error:
            failures.append(error)

    sender = producer(brokers, codec)
    count = len(sender.list_topics(topic, 30).topics[topic].partitions)
    with open(os.path.join(corpus, "all.txt"), "rb") as lines:
        for number, line in enumerate(lines):
            while True:
                try:
                    sender.produce(topic, line[:-1], partition=number % count, on_delivery=delivered)
                    break
                except BufferError:
                    sender.poll(0.1)
            if number % 1000 == 0:
                sender.poll(0)
            if failures:
                break
    left = sender.flush(120)
    if failures or left:
        sys.exit(f"produce: {len(failures)} failed, {left} not delivered: {failures[:1]}")

    reader, partitions = consumer(brokers, topic)
    files = {p: open(os.path.join(out, f"part-{p}.txt"), "wb") for p in partitions}
    at_end, last = set(), time.monotonic()
    while at_end != set(partitions):
        messages = reader.consume(10000, 1.0)
        if messages:
            last = time.monotonic()
        elif time.monotonic() - last > STALL_S:
            sys.exit("consume: nothing more comes")
        for message in messages:
            if message.error() is None:
                files[message.partition()].write(message.value() + b"\n")
            elif message.error().code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                sys.exit(f"consume: {message.error()}")
    for file in files.values():
        file.close()
    reader.close()


def live_produce(brokers, topic, dir):
    sender = producer(brokers, "none")
    count = len(sender.list_topics(topic, 30).topics[topic].partitions)
    with open(os.path.join(dir, "acked"), "w", buffering=1) as acked:
        def delivered(error, message):
            if error:
                print(f"record {message.value()}: {error}", file=sys.stderr)
            else:
                print(message.value().decode(), message.partition(), message.offset(), file=acked)

        for number in live.numbers(dir):
            sender.produce(topic, str(number).encode(), partition=number % count, on_delivery=delivered)
            sender.poll(0)
        sender.flush(60)


def live_consume(brokers, topic, dir):
    reader, _ = consumer(brokers, topic)
    with open(os.path.join(dir, "consumed"), "w", buffering=1) as consumed:
        while not os.path.exists(os.path.join(dir, "stop-consumer")):
            message = reader.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                print(message.partition(), message.offset(), message.value().decode(), file=consumed)
            elif message.error().code() != KafkaError._PARTITION_EOF:
                print(message.error(), file=sys.stderr)


def group(brokers, topic, name, path):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    reader = Consumer({"bootstrap.servers": brokers, "group.id": name, "auto.offset.reset": "earliest",
                       "enable.auto.commit": False, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000,
                       "partition.assignment.strategy": "cooperative-sticky"})
    reader.subscribe([topic])
    with open(path, "w", buffering=1) as consumed:
        while not ended:
            messages = [message for message in reader.consume(1000, 0.2) if message.error() is None]
            for message in messages:
                print(message.partition(), message.offset(), file=consumed)
            if messages:
                try:
                    reader.commit(asynchronous=False)
                except KafkaException as error:  # a rebalance, or a broker that restarts: what was read comes again
                    print(f"commit: {error!r}", file=sys.stderr)
    reader.close()


if __name__ == "__main__":
    live.command(roundtrip, live_produce, live_consume, group)
