"""Runs librdkafka's own test-runner against a broker: one process for each test, as a test that hangs kills its process.

    librdkafka.py --tests DIR --brokers default=HOST:PORT one-shard=HOST:PORT noautocreate=HOST:PORT
                  [--only PART,...] [--short] [--jobs N] [--no-list]

DIR is librdkafka's tests/ with a built test-runner. Its tests that ask no broker (TEST_F_LOCAL) and those to be run by
hand are no tests here. librdkafka.txt says what is expected; a name with a slash there, TEST/FUNCTION, is a part of a
test, and makes that test be run by its parts. --no-list expects every test to pass: to ask another broker.
"""

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

import expectations
from expectations import Result

HERE = os.path.dirname(os.path.abspath(__file__))
# A test sets its own time limits, which end it; this is for a process that is beyond that.
PROCESS_SECONDS = 900
# Parts of a test that are calls of one function: what tells their titles apart.
CALLS = {
    "0061_consumer_lag/without_transactions": "lag without transactions",
    "0061_consumer_lag/with_transactions": "lag with transactions",
}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What test-runner's report says of a test. (Its summary is lost when it aborts.)
REPORTED = re.compile(r'"name": "(\w+)", "state": "(\w+)", [^{}]*?"duration": ([\d.]+)')
# The newest broker whose features these tests do not tell from ours by the version alone.
KAFKA_VERSION = "4.0.0.0"


def find(tests):
    """Every test that asks a broker, with the cluster that it wants ("default" or "noautocreate")."""
    with open(os.path.join(tests, "test.c")) as source:
        text = source.read()
    table = text[text.index("struct test tests[]"):]
    table = table[:table.index("{NULL}")]
    found = {}
    for entry in table.split("_TEST(")[1:]:
        name, rest = entry.split(",", 1)
        if "TEST_F_LOCAL" in rest or "TEST_F_MANUAL" in rest:
            continue
        scenario = re.search(r'\.scenario\s*=\s*"([\w,]+)"', rest)
        found[name] = scenario.group(1).split(",")[0] if scenario else "default"
    return found


def parts(tests, name):
    """The functions of a test's source that are parts of it: they begin with SUB_TEST. Or the calls of such a one."""
    calls = [call for call in CALLS if call.startswith(f"{name}/")]
    if calls:
        return calls
    number = name.split("_")[0]
    functions = []
    for file in sorted(os.listdir(tests)):
        if file.startswith(number + "-") and file.endswith((".c", ".cpp")):
            with open(os.path.join(tests, file)) as source:
                for function, body in re.findall(r"^(?:static )?void\s+(\w+)\s*\([^;{]*\) \{\n(.*?)^\}", source.read(),
                                                 re.DOTALL | re.MULTILINE):
                    if "SUB_TEST" in body:
                        functions.append(f"{name}/{function}")
    return functions


class Runner:
    def __init__(self, tests, brokers, logs):
        self.tests, self.brokers, self.logs = tests, brokers, logs
        self.configurations = {}
        for cluster, address in brokers.items():
            path = os.path.join(logs, f"{cluster}.conf")
            with open(path, "w") as configuration:
                configuration.write(f"bootstrap.servers={address}\nbroker.address.family=v4\n"
                                    "test.timeout.multiplier=3\n")
            self.configurations[cluster] = path

    def run(self, names, scenario, cluster):
        """Runs tests of one number, which test-runner runs together, or one part of a test. A Result for each."""
        test, _, function = names[0].partition("/")
        safe = names[0].replace("/", ".")
        report, log = (os.path.join(self.logs, f"{safe}.{ending}") for ending in ("json", "log"))
        # test-runner cuts the report's name off after 127 bytes: the way from its own directory is shorter.
        name_of_report = os.path.relpath(os.path.realpath(report), os.path.realpath(self.tests))
        environment = dict(
            os.environ, TESTS=test.split("_")[0], TEST_REPORT=name_of_report, TEST_KAFKA_VERSION=KAFKA_VERSION,
            RDKAFKA_TEST_CONF=self.configurations[cluster], BROKERS=self.brokers[cluster],
            LD_LIBRARY_PATH="../src:../src-cpp")
        title = CALLS.get(names[0], f"{function}:")
        if function:
            environment["SUBTESTS"] = title
        command = ["./test-runner", "-p1", "-L", "-s", scenario]
        with open(log, "wb") as output:
            try:
                status = subprocess.run(command, cwd=self.tests, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=output, stderr=output, timeout=PROCESS_SECONDS).returncode
            except subprocess.TimeoutExpired:
                status = f"nothing after {PROCESS_SECONDS} s"
        with open(log, errors="replace") as lines:
            text = COLOUR.sub("", lines.read())
        reported = {}
        if os.path.exists(report):
            with open(report, errors="replace") as lines:
                reported = {name: Result(state, float(seconds), f"{reason(name, text)} ({log})")
                            for name, state, seconds in REPORTED.findall(lines.read())}
        if status and all(result.state in ("PASSED", "SKIPPED") for result in reported.values()):
            # It counts the threads that librdkafka leaves behind when the tests are over.
            ended = Result("FAILED", 0.0, f"test-runner ended with {status} ({log})")
            return dict.fromkeys(names, ended)
        missing = Result("FAILED", 0.0, f"test-runner ended with {status}, and does not report it ({log})")
        if not function:
            return {name: reported.get(name, missing) for name in names}
        result = reported.get(test, missing)
        if result.state == "PASSED" and not re.search(rf"\[ .*{re.escape(title)}.*: PASS", text):
            result = Result("SKIPPED", result.seconds, f"this part is not called ({log})")
        return {names[0]: result}


def reason(name, text):
    """Why a test failed or was skipped, if it was: the first that its log says of it."""
    failure = re.search(rf'^### Test "{name}\b.*\n(.*)', text, re.MULTILINE)
    skip = re.search(rf"^\[{name} .*SKIPPING TEST: (.*)", text, re.MULTILINE)
    return next((found.group(1) for found in (failure, skip) if found), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", required=True)
    parser.add_argument("--brokers", nargs="+", required=True)
    parser.add_argument("--logs")
    parser.add_argument("--only")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--jobs", type=int, default=max(4, os.cpu_count()))
    parser.add_argument("--no-list", action="store_true")
    options = parser.parse_args()
    brokers = dict(broker.split("=", 1) for broker in options.brokers)
    logs = options.logs or tempfile.mkdtemp(prefix="librdkafka-")
    os.makedirs(logs, exist_ok=True)

    found = find(options.tests)
    listed = expectations.read(os.path.join(HERE, "librdkafka.txt"))
    in_parts = {name.partition("/")[0] for name in listed if "/" in name}
    names = [part for name in found for part in (parts(options.tests, name) if name in in_parts else [name])]
    expected = {} if options.no_list else listed
    runner = Runner(options.tests, brokers, logs)

    def group(name):
        """What is run together: parts alone, tests by their number; and where."""
        test = name.partition("/")[0]
        one_shard = name in listed and listed[name].kind == "one-shard"
        cluster = "one-shard" if one_shard and found[test] == "default" else found[test]
        return name if "/" in name else test.split("_")[0], found[test], cluster

    def run(item):
        (_, scenario, cluster), names = item
        results = runner.run(names, scenario, cluster)
        for name, result in results.items():
            print(f"{result.state} {name} {result.seconds:.1f} s", flush=True)
        return results

    groups = {}
    for name in expectations.chosen(names, expected, options.only.split(",") if options.only else None, options.short):
        groups.setdefault(group(name), []).append(name)
    results = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for some in pool.map(run, groups.items()):
            results.update(some)
    return 0 if expectations.report("librdkafka", names, expected, results) else 1


if __name__ == "__main__":
    sys.exit(main())
