#!/usr/bin/env python3
"""What a data directory holds before it is taken over, and after.

  takeover.py --brokers HOST:PORT --state FILE fill        writes to Kafka; notes what it serves
  takeover.py --brokers HOST:PORT --state FILE compare     the same is served: batches byte for byte, offsets, a group's offsets
  takeover.py --brokers HOST:PORT --state FILE go-on       writes more: offsets and sequences go on; notes what is served then
  takeover.py --brokers HOST:PORT --state FILE went-on     that is served
Standard library only.
"""
import argparse
import hashlib
import json
import pathlib
import random
import time

from rawgroup import GroupClient
from rawkafka import EARLIEST, LATEST, Cluster, KafkaError, check, encode_batch

GROUP = "billing"
TOPICS = {
    "plain": (3, {}),
    "rolled": (1, {"segment.bytes": "1048576", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}),
    "compacted": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01",
                      "segment.ms": "1000"}),
    "idempotent": (1, {"max.message.bytes": "2000000"}),
    "empty": (2, {"compression.type": "zstd"}),
}
OUT_OF_ORDER = 45


def fill(cluster, state):
    for topic, (partitions, configs) in {**TOPICS, "deleted": (1, {})}.items():
        cluster.create_topic(topic, partitions, configs)
    for topic in [*TOPICS, "deleted"]:
        cluster.retry(lambda: cluster.list_offset(topic, 0, LATEST))
    rng = random.Random(1)
    for number in range(60):
        codec = "gzip" if number % 3 == 0 else "none"
        values = [rng.randbytes(rng.randrange(200)) for _ in range(1 + number % 5)]
        cluster.produce("plain", number % 3, encode_batch(values, codec))
    for _ in range(40):
        cluster.produce("rolled", 0, encode_batch([rng.randbytes(100_000)]))
    for number in range(200):
        key = b"key-%d" % (number % 20)
        cluster.produce("compacted", 0, encode_batch([rng.randbytes(20_000)], keys=[key]))
    producer_id, epoch = cluster.retry(cluster.init_producer_id)
    for sequence in range(7):
        cluster.produce("idempotent", 0, encode_batch([b"once"], "none", producer_id, epoch, sequence))
    state["producer"] = [producer_id, epoch, 7]
    cluster.produce("deleted", 0, encode_batch([b"gone"]))
    cluster.delete_topic("deleted")
    commit(cluster, {0: 12, 2: 3})
    # Cleaned, as far as it will be: what is served does not change any more.
    before, deadline = None, time.monotonic() + 60
    while time.monotonic() < deadline:
        now = digest(cluster, "compacted", 0)
        if now == before and now["batches"] < 200:
            return
        before = now
        time.sleep(2)
    raise SystemExit(f"Kafka has not compacted anything: {before}")


def commit(cluster, offsets):
    def attempt(client):
        errors = client.commit("", -1, "plain", offsets)
        for partition, error in errors.items():
            check(f"OffsetCommit plain-{partition}", error)

    ask(cluster, attempt)


def committed(cluster):
    found = ask(cluster, lambda client: client.committed("plain", [0, 1, 2]))
    return {str(partition): offset for partition, offset in sorted(found.items())}


def ask(cluster, attempt):
    """The group's coordinator, which may have to be found, or to read its log."""
    client = GroupClient(cluster.bootstrap[0], GROUP)
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt(client)
        except (KafkaError, OSError):
            if time.monotonic() > deadline:
                raise
            client.forget()
            time.sleep(0.2)


def digest(cluster, topic, partition):
    """What a partition serves, from its first offset to its last."""
    whole, batches, records = hashlib.sha256(), 0, 0
    for batch in cluster.batches(topic, partition):
        whole.update(batch.raw)
        batches, records = batches + 1, records + batch.count
    return {"start": cluster.list_offset(topic, partition, EARLIEST), "end": cluster.list_offset(topic, partition, LATEST),
            "batches": batches, "records": records, "sha256": whole.hexdigest()}


def newest(cluster, topic):
    """The last value of each key, as a digest: what compaction, whoever's, must leave."""
    values = {}
    for batch in cluster.batches(topic, 0):
        for offset, key, value in batch.records():
            values[key.decode()] = [offset, hashlib.sha256(value).hexdigest()]
    return {"end": cluster.list_offset(topic, 0, LATEST), "newest": values}


def served(cluster):
    found = {f"{topic}-{partition}": digest(cluster, topic, partition)
             for topic, (partitions, _) in TOPICS.items() for partition in range(partitions) if topic != "compacted"}
    found["compacted-0"] = newest(cluster, "compacted")
    # A time in the middle leads to the same record.
    middle = next(batch for batch in cluster.batches("rolled", 0) if batch.base_offset == 20)
    found["by time"] = cluster.list_offset("rolled", 0, middle.max_timestamp)
    found["group"] = committed(cluster)
    return found


def go_on(cluster, state):
    for place, expected in state["served"].items():
        if isinstance(expected, dict) and "end" in expected:
            topic, partition = place.rsplit("-", 1)
            if topic == "idempotent":
                continue
            base = cluster.retry(lambda: cluster.produce(topic, int(partition), encode_batch([b"more"], keys=[b"more"])))
            assert base == expected["end"], f"{place}: the next batch got offset {base}, and should {expected['end']}"
    producer_id, epoch, next_sequence = state["producer"]
    once = encode_batch([b"once"], "none", producer_id, epoch, next_sequence - 1)
    end = state["served"]["idempotent-0"]["end"]
    again = cluster.produce("idempotent", 0, once)
    assert again == end - 1, f"a repeated batch got offset {again}, and should {end - 1}"
    try:
        cluster.produce("idempotent", 0, encode_batch([b"late"], "none", producer_id, epoch, next_sequence + 3))
        raise SystemExit("a batch with a gap before it was taken")
    except KafkaError as error:
        assert error.code == OUT_OF_ORDER, error
    assert cluster.produce("idempotent", 0, encode_batch([b"next"], "none", producer_id, epoch, next_sequence)) == end
    fresh, _ = cluster.retry(cluster.init_producer_id)
    assert fresh > producer_id, f"producer id {fresh} is given out again"
    assert "deleted" not in {topic for topic in names(cluster)}, "a deleted topic is back"
    commit(cluster, {1: 5})


def names(cluster):
    cluster.metadata(None)
    return {topic for topic, _ in cluster.leaders}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("what", choices=["fill", "compare", "go-on", "went-on"])
    options = parser.parse_args()
    cluster = Cluster(options.brokers)
    state = json.loads(options.state.read_text("utf-8")) if options.state.exists() else {}
    if options.what == "fill":
        fill(cluster, state)
        state["served"] = served(cluster)
    elif options.what == "go-on":
        go_on(cluster, state)
        state["after"] = served(cluster)
    else:
        expected = state["served" if options.what == "compare" else "after"]
        found = served(cluster)
        for place in expected:
            assert found[place] == expected[place], f"{place}: {found[place]}, and should be {expected[place]}"
    options.state.write_text(json.dumps(state), "utf-8")


if __name__ == "__main__":
    main()
