#!/usr/bin/env python3
"""What sending costs at least: one process sends over the loopback as fast as another takes it.

  bare_send.py sendfile FILE SECONDS     a file that is in the page cache, by sendfile(2), 1 MiB a call
  bare_send.py memory MIB SECONDS        memory of that size, by send(2), 1 MiB a call

Prints JSON: mb_per_s, and cpu_s_per_gb of the sender (user and system).
"""
import json
import os
import resource
import socket
import sys
import time

CALL_BYTES = 1 << 20


def main():
    what, of, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        taker = socket.create_connection(listener.getsockname())
        buffer = bytearray(CALL_BYTES)
        while taker.recv_into(buffer):
            pass
        os._exit(0)
    sender = listener.accept()[0]
    send = from_file(sender, of) if what == "sendfile" else from_memory(sender, int(of) << 20)
    run(send, 0.5)
    before, begun = cpu(), time.monotonic()
    sent = run(send, seconds)
    took, used = time.monotonic() - begun, cpu() - before
    sender.close()
    print(json.dumps({"mb_per_s": sent / took / 1e6, "cpu_s_per_gb": used / (sent / 1e9)}))


def from_file(sender, path):
    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size
    while os.read(file, CALL_BYTES):  # into the page cache
        pass
    at = 0

    def send():
        nonlocal at
        sent = os.sendfile(sender.fileno(), file, at, CALL_BYTES)
        at = (at + sent) % size
        return sent

    return send


def from_memory(sender, size):
    memory = memoryview(bytearray(os.urandom(CALL_BYTES) * (size // CALL_BYTES)))
    at = 0

    def send():
        nonlocal at
        sent = sender.send(memory[at : at + CALL_BYTES])
        at = (at + sent) % size
        return sent

    return send


def run(send, seconds):
    deadline, sent = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        sent += send()
    return sent


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
