"""kafka-python with its default settings: idempotent, acks=all. Commands: see live.py."""
import os
import signal
import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

import live

STALL_S = 60


def producer(brokers, codec):
    return KafkaProducer(bootstrap_servers=brokers, compression_type=None if codec == "none" else codec, linger_ms=20)


def consumer(brokers, topic):
    made = KafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
    partitions = [TopicPartition(topic, p) for p in sorted(made.partitions_for_topic(topic))]
    made.assign(partitions)
    made.seek_to_beginning(*partitions)
    return made, partitions


def roundtrip(brokers, topic, codec, corpus, out):
    failures = []
    sender = producer(brokers, codec)
    count = len(sender.partitions_for(topic))
    with open(os.path.join(corpus, "all.txt"), "rb") as lines:
        for number, line in enumerate(lines):
            sender.send(topic, line[:-1], partition=number % count).add_errback(failures.append)
            if failures:
                break
    sender.flush()
    sender.close()
    if failures:
        sys.exit(f"produce: {len(failures)} failed: {failures[0]!r}")

    reader, partitions = consumer(brokers, topic)
    end = reader.end_offsets(partitions)
    files = {p: open(os.path.join(out, f"part-{p.partition}.txt"), "wb") for p in partitions}
    last = time.monotonic()
    while any(reader.position(p) < end[p] for p in partitions):
        answer = reader.poll(timeout_ms=1000)
        if answer:
            last = time.monotonic()
        elif time.monotonic() - last > STALL_S:
            sys.exit("consume: nothing more comes")
        for partition, records in answer.items():
            for record in records:
                files[partition].write(record.value + b"\n")
    for file in files.values():
        file.close()
    reader.close()


def live_produce(brokers, topic, dir):
    sender = producer(brokers, "none")
    count = len(sender.partitions_for(topic))
    with open(os.path.join(dir, "acked"), "w", buffering=1) as acked:
        for number in live.numbers(dir):
            future = sender.send(topic, str(number).encode(), partition=number % count)
            future.add_callback(lambda meta, number=number: print(number, meta.partition, meta.offset, file=acked))
            future.add_errback(lambda error, number=number: print(f"record {number}: {error!r}", file=sys.stderr))
        sender.flush()
        sender.close()


def live_consume(brokers, topic, dir):
    reader, _ = consumer(brokers, topic)
    with open(os.path.join(dir, "consumed"), "w", buffering=1) as consumed:
        while not os.path.exists(os.path.join(dir, "stop-consumer")):
            for records in reader.poll(timeout_ms=200).values():
                for record in records:
                    print(record.partition, record.offset, record.value.decode(), file=consumed)


def group(brokers, topic, name, path):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    reader = KafkaConsumer(topic, bootstrap_servers=brokers, group_id=name, auto_offset_reset="earliest",
                           enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=1000)
    with open(path, "w", buffering=1) as consumed:
        while not ended:
            try:
                answer = reader.poll(timeout_ms=200)
                for records in answer.values():
                    for record in records:
                        print(record.partition, record.offset, file=consumed)
                if answer:
                    reader.commit()
            except KafkaError as error:  # a rebalance, or a broker that restarts: what was read comes again
                print(f"poll or commit: {error!r}", file=sys.stderr)
                time.sleep(0.1)
    reader.close()


if __name__ == "__main__":
    live.command(roundtrip, live_produce, live_consume, group)
