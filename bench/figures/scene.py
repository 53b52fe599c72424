"""What the figures share: brokers that are started and stopped, the load generator, medians. Standard library only."""
import argparse
import atexit
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

REPO = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "release"
TOOLS = REPO / "broker" / "tests" / "tools"
MIB = 1 << 20


def fail(why):
    sys.exit(f"{sys.argv[0]}: {why}")


def cannot(why):
    """What is needed is not on this host: the exit code that CI takes for skipped."""
    print(f"{sys.argv[0]}: cannot be done here: {why}", file=sys.stderr)
    sys.exit(77)


def arguments(description, **defaults):
    """The arguments of a figure: --KEY VALUE for each default, --data, --short and --check. `short` holds what --short sets."""
    short = defaults.pop("short")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, value in defaults.items():
        parser.add_argument("--" + key.replace("_", "-"), type=type(value), default=value, help=f"default: {value}")
    parser.add_argument("--data", type=pathlib.Path, default=REPO / "bench" / ".figures",
                        help="a directory on the disk in question, which is emptied; default: bench/.figures")
    parser.add_argument("--short", action="store_true", help="a few seconds: that it runs, not how fast")
    parser.add_argument("--check", action="store_true", help="end with 1 if a figure does not hold")
    options = parser.parse_args()
    if options.short:
        vars(options).update(short)
    for binary in ("bench", "millstream"):
        if not (TARGET / binary).exists():
            fail(f"no {TARGET / binary}: cargo build --release -p millstream -p millstream-bench")
    empty(options.data)
    return options


def empty(directory):
    mark = directory / ".figures"
    if directory.exists() and any(directory.iterdir()) and not mark.exists():
        fail(f"{directory} is not empty and not ours")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    mark.touch()


def say(what):
    print(f"== {what}", file=sys.stderr, flush=True)


class Millstream:
    """Our broker, with a data directory of its own and one shard: so that the load generator has another core."""

    def __init__(self, directory, port=25092, **settings):
        self.directory, self.port = directory, port
        self.settings = {"admin.listen": f"127.0.0.1:{port + 1}", **settings}
        self.process, self.shards = None, 1
        self.under = []  # a program that runs it
        atexit.register(self.stop, signal.SIGKILL)
        self.address = f"127.0.0.1:{port}"

    def start(self):
        """Starts it, and waits until it serves. How many seconds that took."""
        command = [*self.under, TARGET / "millstream", "start", "--data-dir", self.directory / "data", "--port", str(self.port),
                   "--shards", str(self.shards)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        self.directory.mkdir(parents=True, exist_ok=True)
        out = open(self.directory / "millstream.out", "w+", encoding="utf-8")
        begun = time.monotonic()
        self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        while "millstream ready" not in (self.directory / "millstream.out").read_text("utf-8"):
            if self.process.poll() is not None or time.monotonic() - begun > 600:
                fail("millstream did not start: " + (self.directory / "millstream.out").read_text("utf-8"))
            time.sleep(0.005)
        return time.monotonic() - begun

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(300)

    def restart(self):
        self.stop()
        return self.start()

    @property
    def pid(self):
        return self.process.pid

    def metrics(self):
        """The sum of each metric over shards."""
        url = f"http://127.0.0.1:{self.port + 1}/metrics"
        sums = {}
        with urllib.request.urlopen(url, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if not line.startswith("#"):
                    name, value = line.split("{")[0].split(" ")[0], line.rsplit(" ", 1)[1]
                    sums[name] = sums.get(name, 0.0) + float(value)
        return sums


class Kafka:
    """Apache Kafka 4.x, one node."""

    def __init__(self, directory, port=26092, **settings):
        self.directory, self.port, self.settings = directory, port, settings
        self.address = f"127.0.0.1:{port}"
        self.pid = None
        self.under = []  # a program that runs it
        atexit.register(self.stop, signal.SIGKILL)

    def start(self):
        begun = time.monotonic()
        settings = [f"{key}={value}" for key, value in self.settings.items()]
        command = [*self.under, TOOLS / "kafka.sh", "start", str(self.port), self.directory, *settings]
        # After a kill it looks at every log.
        started = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KAFKA_START_SECONDS": "1800"})
        if started.returncode != 0:
            fail(f"Kafka did not start: {started.stderr}")
        self.pid = int(started.stdout.split()[-1])
        return time.monotonic() - begun

    def stop(self, how=signal.SIGTERM):
        if self.pid:
            try:
                os.kill(self.pid, how)
                for _ in range(600):
                    os.kill(self.pid, 0)
                    time.sleep(0.1)
            except ProcessLookupError:
                pass
            self.pid = None


class MemoryGroup:
    """A control group for a broker: the most memory that it had at once, its part of the page cache included. Needs root."""

    def __init__(self, name):
        self.path = self.why_not = None
        first, second = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")
        try:
            if (first / "memory.max_usage_in_bytes").exists():
                root, self.peak_file = first, "memory.max_usage_in_bytes"
            else:
                root, self.peak_file = second, "memory.peak"
                if "memory" not in (root / "cgroup.subtree_control").read_text("ascii").split():
                    (root / "cgroup.subtree_control").write_text("+memory", "ascii")
            path = root / f"millstream-figures-{os.getpid()}-{name}"
            path.mkdir(exist_ok=True)
            self.path = path
            atexit.register(self.remove)
            self.peak_fd = os.open(path / self.peak_file, os.O_RDONLY)
        except (OSError, ValueError) as error:
            self.remove()
            self.why_not = str(error)

    def runner(self):
        """What `under` is to be, for a broker that starts in it."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', self.path / "cgroup.procs"] if self.path else []

    def forget(self):
        """The peak is one from now on, where the kernel can do that (not with cgroup v2 before Linux 6.12): else from the start on."""
        if self.path:
            with contextlib.suppress(OSError):
                # With cgroup v2 it is forgotten for this open file alone.
                self.peak_fd = os.open(self.path / self.peak_file, os.O_RDWR)
                os.write(self.peak_fd, b"0")

    def peak(self):
        return int(os.pread(self.peak_fd, 100, 0))

    def remove(self):
        """Once nothing runs in it: who was killed may take a moment to be gone."""
        for _ in range(100):
            if not self.path:
                return
            try:
                self.path.rmdir()
                self.path = None
            except OSError:
                time.sleep(0.1)


def cpu_seconds(pid):
    """User and system time of a process and its threads so far: what bench reports of a broker."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench(command, broker, topic, **flags):
    """A run of the load generator: its report. Flags are its own, with underscores."""
    return finish(begin(command, broker, topic, **flags))


def begin(command, broker, topic, **flags):
    words = [TARGET / "bench", command, "--brokers", broker.address, "--topic", topic, "--json", "--server-pid", str(broker.pid)]
    for key, value in flags.items():
        words += ["--" + key.replace("_", "-"), str(value)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process


def finish(process):
    out, said = process.communicate()
    if process.returncode != 0:
        fail(f"bench failed: {said[-2000:]}{out[-2000:]}")
    report = json.loads(out)
    # What it said while it ran: MB/s and p99 in ms of each second.
    seconds = re.findall(r"([\d.]+) MB/s.*?p99 +([\d.]+) ms", said)
    report["curve"] = [(float(rate), float(p99)) for rate, p99 in seconds]
    return report


def disk(options, file_mib, *only, seconds=None):
    """What the disk gives: the answers of `bench disk` to the questions that are named."""
    command = [TARGET / "bench", "disk", "--directory", options.data, "--file-mib", str(file_mib),
               "--seconds", str(seconds or options.seconds), "--json", *(word for subject in only for word in ("--only", subject))]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["answers"]


def delete(broker, topic):
    command = [sys.executable, TOOLS / "rawkafka.py", "--brokers", broker.address, "delete", topic]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def settle(directory):
    """What was left in the page cache must not be written while something else is measured."""
    subprocess.run(["sync", "-f", directory], check=True)
    time.sleep(1)


class Figures:
    """Values of each line and column, over the rounds."""

    def __init__(self):
        self.values = {}
        self.curves = {}

    def add(self, line, **columns):
        for column, value in columns.items():
            self.values.setdefault(line, {}).setdefault(column, []).append(value)

    def of(self, line, column):
        return self.values.get(line, {}).get(column, [])

    def table(self, head, columns):
        print(f"| {head} | " + " | ".join(columns) + " |")
        print("|---" * (len(columns) + 1) + "|")
        for line, values in self.values.items():
            print(f"| {line} | " + " | ".join(spread(values.get(column, [])) for column in columns) + " |")

    def ratio(self, column, of, to):
        """The ratio of two lines in each round."""
        return [one / other for one, other in zip(self.of(of, column), self.of(to, column))]


def digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def spread(values):
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return digits(middle) if low == high else f"{digits(middle)} ({digits(low)}-{digits(high)})"


class Asked:
    """What must show, and whether it does."""

    def __init__(self):
        self.failed = False
        print()

    def at_most(self, what, values, limit):
        self.line(what, values, f"at most {limit}", statistics.median(values) <= limit)

    def at_least(self, what, values, limit):
        self.line(what, values, f"at least {limit}", statistics.median(values) >= limit)

    def line(self, what, values, asked, holds):
        self.failed |= not holds
        print(f"- {what}: {spread(values)}; asked: {asked}: {'holds' if holds else 'DOES NOT HOLD'}")

    def end(self, options):
        sys.exit(1 if self.failed and options.check else 0)


def read_alone(paths, seconds, depth=4):
    """MB/s that the disk gives to direct reads of 1 MiB, so many at a time."""
    import mmap
    deadline, total, lock = time.monotonic() + seconds, [0], threading.Lock()
    queue = [(path, at) for path in paths for at in range(0, path.stat().st_size - MIB, MIB)]
    queue.reverse()

    def read():
        buffer = mmap.mmap(-1, MIB)
        files = {}
        while time.monotonic() < deadline:
            with lock:
                if not queue:
                    return
                path, at = queue.pop()
            if path not in files:
                files[path] = os.open(path, os.O_RDONLY | os.O_DIRECT)
            got = os.preadv(files[path], [buffer], at)
            with lock:
                total[0] += got
        for file in files.values():
            os.close(file)

    begun = time.monotonic()
    threads = [threading.Thread(target=read) for _ in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total[0] / (time.monotonic() - begun) / 1e6
