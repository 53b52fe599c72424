#!/usr/bin/env python3
"""A member of a classic consumer group on plain sockets, which tells what librdkafka hides: ids, generations, error codes.

It owns: finding the coordinator, and the requests of a member in their last non-flexible versions. It keeps no thread
and sends no heartbeat by itself: when it is not called, the group takes it for dead.
It never hides an error: every non-zero error code raises rawkafka.KafkaError.

  rawgroup.py selftest
"""
import struct
import sys

from rawkafka import Connection, KafkaError, Reader, array, check, string

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 11, 12, 13, 14
COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS = 22, 25, 27
MEMBER_ID_REQUIRED, FENCED_INSTANCE_ID = 79, 82


def sized(raw):
    return struct.pack(">i", len(raw)) + raw


def subscription(topics):
    """ConsumerProtocolSubscription v0."""
    return struct.pack(">h", 0) + array([string(topic) for topic in topics]) + sized(b"")


def assignment(topic, partitions):
    """ConsumerProtocolAssignment v0."""
    parts = array([struct.pack(">i", partition) for partition in partitions])
    return struct.pack(">h", 0) + array([string(topic) + parts]) + sized(b"")


def assigned(raw):
    """The partitions of all topics in an assignment; none in an empty one."""
    if not raw:
        return []
    reader = Reader(raw)
    reader.take("h")
    topics = reader.array(lambda: (reader.string(), reader.array(lambda: reader.take("i"))))
    return sorted(partition for _, partitions in topics for partition in partitions)


class GroupClient:
    """Requests of one group, sent to its coordinator. Times are in milliseconds."""

    def __init__(self, bootstrap, group, instance_id=None, timeout=20.0):
        self.bootstrap, self.group, self.instance_id, self.timeout = bootstrap, group, instance_id, timeout
        self.connection = None

    def forget(self):
        """The coordinator is looked for again at the next request."""
        if self.connection:
            self.connection.close()
        self.connection = None

    def call(self, api_key, version, body):
        if not self.connection:
            self.connection = Connection(*self.find(), timeout=self.timeout)
        return self.connection.call(api_key, version, string(self.group) + body)

    def find(self):
        """FindCoordinator v2. Returns the coordinator's address."""
        asked = Connection(*self.bootstrap, timeout=self.timeout)
        try:
            reader = asked.call(FIND_COORDINATOR, 2, string(self.group) + struct.pack(">b", 0))
        finally:
            asked.close()
        _, error = reader.take("ih")
        check(f"FindCoordinator {self.group}", error, reader.string())
        _, host, port = reader.take("i"), reader.string(), reader.take("i")
        return host, port

    def join(self, member_id, topics, session_ms, rebalance_ms):
        """JoinGroup v5, again with the id if one is required. Returns (member id, generation, ids of members if leader)."""
        protocols = array([string("range") + sized(subscription(topics))])
        while True:
            reader = self.call(JOIN_GROUP, 5, struct.pack(">ii", session_ms, rebalance_ms) + string(member_id)
                               + string(self.instance_id) + string("consumer") + protocols)
            _, error, generation = reader.take("ihi")
            reader.string()
            leader, given = reader.string(), reader.string()
            if error == MEMBER_ID_REQUIRED and not member_id:
                member_id = given
                continue
            check(f"JoinGroup {self.group}", error)
            members = reader.array(lambda: (reader.string(), reader.string(), reader.bytes()))
            return given, generation, [member for member, _, _ in members] if leader == given else []

    def sync(self, member_id, generation, assignments):
        """SyncGroup v3; `assignments` of the leader by member id. Returns the member's own, as bytes."""
        items = array([string(member) + sized(raw) for member, raw in assignments.items()])
        reader = self.call(SYNC_GROUP, 3, self._identity(member_id, generation) + items)
        _, error = reader.take("ih")
        check(f"SyncGroup {self.group}", error)
        return reader.bytes()

    def heartbeat(self, member_id, generation):
        """Heartbeat v3."""
        _, error = self.call(HEARTBEAT, 3, self._identity(member_id, generation)).take("ih")
        check(f"Heartbeat {self.group}", error)

    def leave(self, member_id):
        """LeaveGroup v3."""
        reader = self.call(LEAVE_GROUP, 3, array([string(member_id) + string(self.instance_id)]))
        _, error = reader.take("ih")
        check(f"LeaveGroup {self.group}", error)
        for member, _, error in reader.array(lambda: (reader.string(), reader.string(), reader.take("h"))):
            check(f"LeaveGroup {self.group} {member}", error)

    def commit(self, member_id, generation, topic, offsets, metadata=""):
        """OffsetCommit v7 of {partition: offset}, each with the metadata. Returns {partition: error code}: each has its own fate."""
        items = [struct.pack(">iqi", partition, offset, -1) + string(metadata) for partition, offset in offsets.items()]
        reader = self.call(OFFSET_COMMIT, 7, self._identity(member_id, generation) + array([string(topic) + array(items)]))
        reader.take("i")
        return dict(self._by_partition(reader, lambda: reader.take("ih")))

    def committed(self, topic, partitions):
        """OffsetFetch v5. Returns {partition: offset}, -1 where nothing was committed."""
        items = array([struct.pack(">i", partition) for partition in partitions])
        reader = self.call(OFFSET_FETCH, 5, array([string(topic) + items]))
        reader.take("i")

        def partition():
            index, offset, _ = reader.take("iqi")
            reader.string()
            return index, offset, reader.take("h")

        answers = self._by_partition(reader, partition)
        check(f"OffsetFetch {self.group}", reader.take("h"))
        for index, _, error in answers:
            check(f"OffsetFetch {self.group} {topic}-{index}", error)
        return {index: offset for index, offset, _ in answers}

    def _identity(self, member_id, generation):
        return struct.pack(">i", generation) + string(member_id) + string(self.instance_id)

    @staticmethod
    def _by_partition(reader, read):
        topics = reader.array(lambda: (reader.string(), reader.array(read)))
        return [answer for _, answers in topics for answer in answers]


def selftest():
    assert assigned(assignment("t", [2, 0])) == [0, 2] and assigned(b"") == []
    assert subscription(["t"]) == b"\0\0" + b"\0\0\0\1" + b"\0\1t" + b"\0\0\0\0"
    print("rawgroup: selftest passed")


if __name__ == "__main__":
    if sys.argv[1:] != ["selftest"]:
        sys.exit(__doc__)
    selftest()
