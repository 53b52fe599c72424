"""Runs kafka-python's own integration tests against a broker, in the Python environment that this is started in.

    kafka_python.py --source DIR --brokers default=HOST:PORT one-shard=HOST:PORT [--only PART,...] [--short] [--no-list]

DIR is kafka-python's unpacked source distribution. kafka_python.txt says what is expected. --no-list expects every
test to pass: to ask another broker.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import expectations
from expectations import Result

HERE = os.path.dirname(os.path.abspath(__file__))
INTEGRATION = os.path.join("test", "integration")
# The newest version that kafka-python 3.0.12 knows. Tests that want an older broker skip themselves; what a client may
# send is still what the broker says in ApiVersions.
KAFKA_VERSION = "4.3"


class Suite:
    def __init__(self, source, logs):
        self.source, self.logs = source, logs
        # The source distribution has neither of these.
        open(os.path.join(source, "test", "__init__.py"), "a").close()
        shutil.copy(os.path.join(HERE, "kafka_python_service.py"), os.path.join(source, "test", "service.py"))

    def pytest(self, arguments, broker="127.0.0.1:1"):
        environment = dict(
            os.environ, KAFKA_URI=f"kafka://{broker}", KAFKA_VERSION=KAFKA_VERSION, PYTHONPATH=self.source,
            # The fixtures want the directory of a Kafka, and with KAFKA_URI never look into it.
            KAFKA_ROOT=self.source)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-o", "log_level=INFO", *arguments],
            cwd=self.source, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def names(self):
        """Every test, as FILE::NAME."""
        done = self.pytest(["--collect-only", INTEGRATION])
        names = [line.removeprefix(INTEGRATION + "/") for line in done.stdout.splitlines() if "::" in line]
        if done.returncode or not names:
            raise SystemExit(f"kafka-python's tests cannot be collected:\n{done.stdout}")
        return names

    def run(self, names, cluster, broker):
        """Runs `names` in one process, and gives a Result for each."""
        if not names:
            return {}
        report, log = (os.path.join(self.logs, f"kafka-python.{cluster}.{ending}") for ending in ("xml", "log"))
        done = self.pytest([f"--junit-xml={report}", *(os.path.join(INTEGRATION, name) for name in names)], broker)
        with open(log, "w") as output:
            output.write(done.stdout)
        if not os.path.exists(report):
            raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}")
        results = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            module, _, test_class = case.get("classname").removeprefix("test.integration.").partition(".")
            name = "::".join(part for part in (f"{module}.py", test_class, case.get("name")) if part)
            state, detail = "PASSED", ""
            for element in case:
                if element.tag in ("failure", "error", "skipped"):
                    state = "SKIPPED" if element.tag == "skipped" else "FAILED"
                    detail = element.get("message", "").replace("\n", " ")[:300] + f" ({log})"
            results[name] = Result(state, float(case.get("time")), detail)
        return {name: results.get(name, Result("FAILED", 0.0, f"no result: {log}")) for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--brokers", nargs="+", required=True)
    parser.add_argument("--logs")
    parser.add_argument("--only")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--no-list", action="store_true")
    options = parser.parse_args()
    brokers = dict(broker.split("=", 1) for broker in options.brokers)
    logs = options.logs or tempfile.mkdtemp(prefix="kafka-python-")
    os.makedirs(logs, exist_ok=True)

    suite = Suite(os.path.abspath(options.source), logs)
    names = suite.names()
    listed = expectations.read(os.path.join(HERE, "kafka_python.txt"))
    expected = {} if options.no_list else listed
    chosen = expectations.chosen(names, expected, options.only.split(",") if options.only else None, options.short)
    results = {}
    for cluster in brokers:
        of_cluster = [name for name in chosen
                      if cluster == ("one-shard" if name in listed and listed[name].kind == "one-shard" else "default")]
        results.update(suite.run(of_cluster, cluster, brokers[cluster]))
        for _ in range(2):
            lost = [name for name in of_cluster if results[name].state == "FAILED"
                    and name in listed and listed[name].kind == "races"]
            for name in lost:
                print(f"again     {name}: {listed[name].reason}")
            results.update(suite.run(lost, cluster, brokers[cluster]) if lost else {})
    return 0 if expectations.report("kafka-python", names, expected, results) else 1


if __name__ == "__main__":
    sys.exit(main())
