"""What kafka-python's fixtures import as test/service.py, which its source distribution leaves out.

The real one starts Kafka. Ours has nothing to start: the broker is there, and KAFKA_URI names it.
"""


class ExternalService:
    def __init__(self, host, port):
        pass

    def dump_logs(self):
        pass


class SpawnedService:
    def __init__(self, *arguments):
        raise RuntimeError("this test starts a Kafka of its own")
