#!/usr/bin/env python3
"""A very small Kafka client on plain sockets, to look at what a broker really stores.

It owns: framing, the few requests below in their non-flexible versions, and the
header of a record batch v2. It needs nothing but Python's standard library.
It never hides an error: every non-zero error code raises KafkaError.

  rawkafka.py --brokers HOST:PORT ready [--timeout SECONDS]     waits until Metadata names a broker
  rawkafka.py --brokers HOST:PORT api-versions
  rawkafka.py --brokers HOST:PORT metadata [TOPIC...]
  rawkafka.py --brokers HOST:PORT create TOPIC PARTITIONS [KEY=VALUE...]
  rawkafka.py --brokers HOST:PORT delete TOPIC
  rawkafka.py --brokers HOST:PORT offsets TOPIC                 earliest and latest offset of each partition
  rawkafka.py --brokers HOST:PORT produce TOPIC PARTITION       one record for each line of standard input
  rawkafka.py --brokers HOST:PORT fetch TOPIC PARTITION OFFSET  one line for each batch from OFFSET on
  rawkafka.py --brokers HOST:PORT check TOPIC [--codec NAME] [--count N] [--crc-budget BYTES]
        walks every batch: right codec, dense offsets, CRC-32C (all of them, or an even
        sample when the topic is larger than the budget), N records in all
  rawkafka.py selftest
"""
import argparse
import socket
import struct
import sys
import time

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID = 18, 19, 20, 22
EARLIEST, LATEST = -2, -1
# Error codes a client retries after new metadata: leader moved, not yet known, not yet elected, timed out, loading, storage.
RETRIABLE = {3, 5, 6, 7, 8, 13, 14, 56, 72, 75, 100}
BATCH_HEADER_BYTES = 61


class KafkaError(Exception):
    def __init__(self, where, code, message=None):
        super().__init__(f"{where}: error code {code}" + (f": {message}" if message else ""))
        self.code = code


# --- CRC-32C (Castagnoli), reflected, table-driven -----------------------------------------

def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc32c_table()


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


# --- primitives ----------------------------------------------------------------------------

def string(text):
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Reads a response front to back. struct.error or IndexError means a short response."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, fmt):
        values = struct.unpack_from(">" + fmt, self.data, self.at)
        self.at += struct.calcsize(">" + fmt)
        return values[0] if len(values) == 1 else values

    def string(self):
        size = self.take("h")
        return None if size < 0 else self.raw(size).decode()

    def raw(self, size):
        if size < 0 or self.at + size > len(self.data):
            raise IndexError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]

    def bytes(self):
        size = self.take("i")
        return b"" if size < 0 else self.raw(size)

    def array(self, read):
        return [read() for _ in range(max(self.take("i"), 0))]

    def varint(self):
        shift = value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7


# --- record batch v2 -----------------------------------------------------------------------

class Batch:
    """Header of a record batch v2; `raw` is the whole batch as stored."""

    def __init__(self, raw):
        (self.base_offset, self.length, self.leader_epoch, self.magic, self.crc, self.attributes,
         self.last_offset_delta, self.base_timestamp, self.max_timestamp, self.producer_id,
         self.producer_epoch, self.base_sequence, self.count) = struct.unpack_from(">qiibIhiqqqhii", raw)
        self.raw = raw

    @property
    def codec(self):
        bits = self.attributes & 7
        return CODECS[bits] if bits < len(CODECS) else f"unknown-{bits}"

    @property
    def last_offset(self):
        return self.base_offset + self.last_offset_delta

    def crc_is_right(self):
        return crc32c(self.raw[21:]) == self.crc

    def records(self):
        """(offset, key, value) of each record; gzip and uncompressed only."""
        body = self.raw[BATCH_HEADER_BYTES:]
        if self.codec == "gzip":
            import zlib
            body = zlib.decompress(body, 47)
        elif self.codec != "none":
            raise ValueError(f"no decoder for {self.codec} in the standard library")
        reader = Reader(body)
        for _ in range(self.count):
            reader.varint()
            reader.take("b")
            reader.varint()
            delta = reader.varint()
            key, value = (None if size < 0 else reader.raw(size) for size in self._sizes(reader))
            for _ in range(reader.varint()):
                reader.raw(reader.varint())
                reader.raw(max(reader.varint(), 0))
            yield self.base_offset + delta, key, value

    @staticmethod
    def _sizes(reader):
        yield reader.varint()   # the key's bytes are taken before the value's size is read
        yield reader.varint()


def parse_batches(data):
    """All whole batches; a partial one at the end, which Fetch may return, is left out."""
    at = 0
    while at + BATCH_HEADER_BYTES <= len(data):
        length = struct.unpack_from(">i", data, at + 8)[0]
        if length < BATCH_HEADER_BYTES - 12:
            raise ValueError(f"batch length {length} at byte {at}")
        if at + 12 + length > len(data):
            return
        yield Batch(data[at:at + 12 + length])
        at += 12 + length


def encode_batch(values, codec="none", producer_id=-1, producer_epoch=-1, base_sequence=-1, timestamp_ms=None, keys=None):
    """An (uncompressed or gzip) batch as a producer sends it: base offset 0, leader epoch -1. Without keys they are null."""
    now = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    body = bytearray()
    for index, value in enumerate(values):
        payload = b"\x00" + varint(0) + varint(index)
        payload += varint(-1) if keys is None else varint(len(keys[index])) + keys[index]
        payload += varint(-1) if value is None else varint(len(value)) + value
        payload += varint(0)
        body += varint(len(payload)) + payload
    if codec == "gzip":
        import gzip
        body = gzip.compress(bytes(body))
    elif codec != "none":
        raise ValueError(f"no encoder for {codec} in the standard library")
    tail = struct.pack(">hiqqqhii", CODECS.index(codec), len(values) - 1, now, now, producer_id,
                       producer_epoch, base_sequence, len(values)) + bytes(body)
    return struct.pack(">qiibI", 0, 9 + len(tail), -1, 2, crc32c(tail)) + tail


# --- connections ---------------------------------------------------------------------------

class Connection:
    def __init__(self, host, port, timeout=30.0):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0

    def send_frame(self, frame):
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive_frame(self):
        return self._exactly(struct.unpack(">i", self._exactly(4))[0])

    def call(self, api_key, version, body):
        self.correlation_id += 1
        self.send_frame(struct.pack(">hhi", api_key, version, self.correlation_id) + string("rawkafka") + body)
        reader = Reader(self.receive_frame())
        got = reader.take("i")
        if got != self.correlation_id:
            raise KafkaError("correlation id", -1, f"asked {self.correlation_id}, got {got}")
        return reader

    def close(self):
        self.socket.close()

    def _exactly(self, size):
        chunks, left = [], size
        while left:
            chunk = self.socket.recv(min(left, 1 << 20))
            if not chunk:
                raise ConnectionError("the broker closed the connection")
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)


class Cluster:
    """Routes each request to the partition's leader, as every Kafka client does."""

    def __init__(self, bootstrap, timeout=30.0):
        self.bootstrap = [(h, int(p)) for h, p in (b.strip().rsplit(":", 1) for b in bootstrap.split(","))]
        self.timeout = timeout
        self.nodes, self.leaders, self.connections = {}, {}, {}
        self.controller = -1

    def connect(self, address):
        if address not in self.connections:
            self.connections[address] = Connection(*address, timeout=self.timeout)
        return self.connections[address]

    def any(self):
        failure = None
        for address in list(self.nodes.values()) + self.bootstrap:
            try:
                return self.connect(address)
            except OSError as error:
                failure = error
        raise failure

    def forget(self):
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def api_versions(self):
        reader = self.any().call(API_VERSIONS, 0, b"")
        check("ApiVersions", reader.take("h"))
        return {key: (low, high) for key, low, high in reader.array(lambda: reader.take("hhh"))}

    def metadata(self, topics=None, create=False):
        """Metadata v4. Returns {topic: (error, {partition: (error, leader)})}; None asks for all topics."""
        body = struct.pack(">i", -1) if topics is None else array([string(t) for t in topics])
        reader = self.any().call(METADATA, 4, body + struct.pack(">b", create))
        reader.take("i")
        nodes = reader.array(lambda: (reader.take("i"), reader.string(), reader.take("i"), reader.string()))
        self.nodes = {node: (host, port) for node, host, port, _ in nodes}
        reader.string()
        self.controller = reader.take("i")

        def partition():
            error, index, leader = reader.take("hii")
            reader.array(lambda: reader.take("i"))
            reader.array(lambda: reader.take("i"))
            return index, (error, leader)

        def topic():
            error, name = reader.take("h"), reader.string()
            reader.take("b")
            return name, (error, dict(reader.array(partition)))

        answer = dict(reader.array(topic))
        for name, (_, partitions) in answer.items():
            for index, (_, leader) in partitions.items():
                self.leaders[name, index] = leader
        return answer

    def partitions(self, topic):
        error, partitions = self.metadata([topic])[topic]
        check(f"Metadata of {topic}", error)
        return sorted(partitions)

    def leader(self, topic, partition):
        if (topic, partition) not in self.leaders:
            self.metadata([topic])
        node = self.leaders.get((topic, partition), -1)
        if node not in self.nodes:
            raise KafkaError(f"leader of {topic}-{partition}", 5, f"node {node}")
        return self.connect(self.nodes[node])

    def retry(self, action, seconds=30.0):
        """Runs `action` again after retriable errors and lost connections, as a client would."""
        until = time.monotonic() + seconds
        while True:
            try:
                return action()
            except (OSError, KafkaError) as error:
                if time.monotonic() > until or isinstance(error, KafkaError) and error.code not in RETRIABLE:
                    raise
                self.forget()
                self.leaders.clear()
                time.sleep(0.2)

    def create_topic(self, topic, partitions, configs=None, replication=1):
        """CreateTopics v2."""
        config_items = [string(k) + string(v) for k, v in (configs or {}).items()]
        body = array([string(topic) + struct.pack(">ih", partitions, replication) + array([]) + array(config_items)])
        self.metadata([])
        owner = self.nodes.get(self.controller)
        reader = (self.connect(owner) if owner else self.any()).call(
            CREATE_TOPICS, 2, body + struct.pack(">ib", 30000, 0))
        reader.take("i")
        for name, error, message in reader.array(lambda: (reader.string(), reader.take("h"), reader.string())):
            check(f"CreateTopics {name}", error, message)

    def delete_topic(self, topic):
        """DeleteTopics v1."""
        self.metadata([])
        owner = self.nodes.get(self.controller)
        reader = (self.connect(owner) if owner else self.any()).call(
            DELETE_TOPICS, 1, array([string(topic)]) + struct.pack(">i", 30000))
        reader.take("i")
        for name, error in reader.array(lambda: (reader.string(), reader.take("h"))):
            check(f"DeleteTopics {name}", error)

    def init_producer_id(self):
        """InitProducerId v0, for an idempotent producer."""
        reader = self.any().call(INIT_PRODUCER_ID, 0, string(None) + struct.pack(">i", 60000))
        reader.take("i")
        check("InitProducerId", reader.take("h"))
        return reader.take("qh")

    def list_offset(self, topic, partition, timestamp):
        """ListOffsets v1. Returns the offset."""
        body = struct.pack(">i", -1) + array([string(topic) + array([struct.pack(">iq", partition, timestamp)])])
        reader = self.leader(topic, partition).call(LIST_OFFSETS, 1, body)
        answer = reader.array(lambda: (reader.string(), reader.array(lambda: reader.take("ihqq"))))
        _, error, _, offset = answer[0][1][0]
        check(f"ListOffsets {topic}-{partition}", error)
        return offset

    def produce(self, topic, partition, batch, acks=-1, timeout_ms=30000, version=7):
        """Produce v3-7 of one encoded batch. Returns its base offset."""
        entry = struct.pack(">i", partition) + struct.pack(">i", len(batch)) + batch
        body = string(None) + struct.pack(">hi", acks, timeout_ms) + array([string(topic) + array([entry])])
        reader = self.leader(topic, partition).call(PRODUCE, version, body)
        fields = "ihqqq" if version >= 5 else "ihqq"
        answer = reader.array(lambda: (reader.string(), reader.array(lambda: reader.take(fields))))
        _, error, base_offset = answer[0][1][0][:3]
        check(f"Produce {topic}-{partition}", error)
        return base_offset

    def fetch(self, topic, partition, offset, max_bytes=8 << 20, max_wait_ms=500, version=11):
        """Fetch v4 or v11 without a session. Returns (high watermark, raw records)."""
        newer = version >= 11
        entry = struct.pack(">i", partition) + (struct.pack(">i", -1) if newer else b"")
        entry += struct.pack(">q", offset) + (struct.pack(">q", -1) if newer else b"") + struct.pack(">i", max_bytes)
        body = struct.pack(">iiiib", -1, max_wait_ms, 1, max_bytes, 0)
        body += struct.pack(">ii", 0, -1) if newer else b""
        body += array([string(topic) + array([entry])])
        body += array([]) + string("") if newer else b""
        reader = self.leader(topic, partition).call(FETCH, version, body)
        reader.take("i")
        if newer:
            check("Fetch", reader.take("h"))
            reader.take("i")

        def answer():
            _, error, high_watermark, _ = reader.take("ihqq")
            if newer:
                reader.take("q")
            reader.array(lambda: reader.take("qq"))
            if newer:
                reader.take("i")
            check(f"Fetch {topic}-{partition} at {offset}", error)
            return high_watermark, reader.bytes()

        return reader.array(lambda: (reader.string(), reader.array(answer)))[0][1][0]

    def batches(self, topic, partition, start=None, end=None):
        """Every batch from the earliest offset to the end offset seen at the start."""
        at = self.retry(lambda: self.list_offset(topic, partition, EARLIEST)) if start is None else start
        end = self.retry(lambda: self.list_offset(topic, partition, LATEST)) if end is None else end
        while at < end:
            _, data = self.retry(lambda: self.fetch(topic, partition, at))
            before = at
            for batch in parse_batches(data):
                if batch.last_offset >= at:
                    yield batch
                    at = batch.last_offset + 1
            if at == before:
                raise KafkaError(f"{topic}-{partition} at {at}", -1, f"nothing came, but the log ends at {end}")


def check(where, code, message=None):
    if code != 0:
        raise KafkaError(where, code, message)


# --- commands ------------------------------------------------------------------------------

PLAIN_SHARE_MAX = 0.03


def check_topic(cluster, topic, codec, count, crc_budget):
    """Prints one line and returns the list of faults found."""
    faults, seen, records, size, checked, batches, plain = [], {}, 0, 0, 0, 0, 0
    parts = cluster.partitions(topic)
    share = crc_budget // max(len(parts), 1)
    for partition in parts:
        expected, budget, skipped = None, share, 0
        for batch in cluster.batches(topic, partition):
            where = f"{topic}-{partition} offset {batch.base_offset}"
            batches += 1
            records += batch.count
            size += len(batch.raw)
            seen[batch.codec] = seen.get(batch.codec, 0) + 1
            if batch.magic != 2:
                faults.append(f"{where}: magic {batch.magic}")
            if expected is None:
                expected = batch.base_offset
            if batch.base_offset != expected:
                faults.append(f"{where}: expected base offset {expected}")
            if batch.count != batch.last_offset_delta + 1:
                faults.append(f"{where}: {batch.count} records but last offset delta {batch.last_offset_delta}")
            if batch.codec == "none":
                plain += len(batch.raw)
            elif codec and batch.codec != codec:
                faults.append(f"{where}: codec {batch.codec} instead of {codec} "
                              f"({batch.count} records, {len(batch.raw)} bytes)")
            # The first batches, then every 16th one, so that a large topic costs seconds and not minutes.
            skipped += 1
            if budget > 0 or skipped % 16 == 0:
                budget -= len(batch.raw)
                checked += 1
                if not batch.crc_is_right():
                    faults.append(f"{where}: CRC-32C is wrong")
            expected = batch.last_offset + 1
    # Clients leave a batch as it is that compression makes larger: a few short records, or a run of checksums.
    if codec not in (None, "none") and plain > size * PLAIN_SHARE_MAX:
        faults.append(f"{topic}: {plain} of {size} bytes are not compressed with {codec}")
    if count is not None and records != count:
        faults.append(f"{topic}: {records} records instead of {count}")
    print(f"{topic}: {records} records, {batches} batches {seen}, {size} bytes, CRC of {checked} batches checked")
    return faults


def wait_ready(bootstrap, seconds):
    until = time.monotonic() + seconds
    while True:
        try:
            cluster = Cluster(bootstrap, timeout=5.0)
            cluster.api_versions()
            cluster.metadata([])
            if cluster.nodes:
                cluster.forget()
                return
            failure = "Metadata names no broker"
        except (OSError, KafkaError, struct.error, IndexError) as error:
            failure = error
        if time.monotonic() > until:
            sys.exit(f"{bootstrap} does not serve after {seconds} s: {failure}")
        time.sleep(0.05)


def selftest():
    assert crc32c(b"123456789") == 0xE3069283
    for codec in ("none", "gzip"):
        batch = next(parse_batches(encode_batch([b"a", b"", None, "zażółć".encode()], codec)))
        assert batch.crc_is_right() and batch.codec == codec and batch.count == 4
        assert [v for _, _, v in batch.records()] == [b"a", b"", None, "zażółć".encode()]
    broken = bytearray(encode_batch([b"abc"]))
    broken[-2] ^= 1
    assert not Batch(bytes(broken)).crc_is_right()
    for value in (0, -1, 1, 63, 64, -65, 1 << 40, -(1 << 40)):
        assert Reader(varint(value)).varint() == value
    print("rawkafka: selftest passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default="127.0.0.1:9092")
    parser.add_argument("command")
    parser.add_argument("args", nargs="*")
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("--codec", choices=CODECS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--crc-budget", type=int, default=8 << 20)
    a = parser.parse_args()
    if a.command == "selftest":
        return selftest()
    if a.command == "ready":
        return wait_ready(a.brokers, a.timeout)
    cluster = Cluster(a.brokers)
    if a.command == "api-versions":
        for key, (low, high) in sorted(cluster.api_versions().items()):
            print(f"{key}\t{low}-{high}")
    elif a.command == "metadata":
        answer = cluster.metadata(a.args or None)
        for node, (host, port) in sorted(cluster.nodes.items()):
            print(f"node {node} {host}:{port}" + (" controller" if node == cluster.controller else ""))
        for topic, (error, partitions) in sorted(answer.items()):
            print(f"topic {topic} error {error} " + " ".join(f"{p}@{l}" for p, (_, l) in sorted(partitions.items())))
    elif a.command == "create":
        cluster.retry(lambda: cluster.create_topic(a.args[0], int(a.args[1]), dict(c.split("=", 1) for c in a.args[2:])))
    elif a.command == "delete":
        cluster.delete_topic(a.args[0])
    elif a.command == "offsets":
        for p in cluster.retry(lambda: cluster.partitions(a.args[0])):
            first, end = (cluster.retry(lambda: cluster.list_offset(a.args[0], p, t)) for t in (EARLIEST, LATEST))
            print(f"{a.args[0]}:{p} {first} {end}")
    elif a.command == "produce":
        values = sys.stdin.buffer.read().split(b"\n")[:-1]
        print(cluster.retry(lambda: cluster.produce(a.args[0], int(a.args[1]), encode_batch(values, a.codec or "none"))))
    elif a.command == "fetch":
        for b in cluster.batches(a.args[0], int(a.args[1]), start=int(a.args[2])):
            print(f"offsets {b.base_offset}-{b.last_offset} epoch {b.leader_epoch} {b.codec} records {b.count} "
                  f"bytes {len(b.raw)} producer {b.producer_id}/{b.producer_epoch}/{b.base_sequence} "
                  f"crc {'right' if b.crc_is_right() else 'WRONG'}")
    elif a.command == "check":
        faults = check_topic(cluster, a.args[0], a.codec, a.count, a.crc_budget)
        for fault in faults[:20]:
            print("FAULT", fault)
        if faults:
            sys.exit(f"{len(faults)} faults")
    else:
        parser.error(f"unknown command {a.command}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, KafkaError, struct.error, IndexError, ValueError) as error:
        sys.exit(f"rawkafka: {type(error).__name__}: {error}")
