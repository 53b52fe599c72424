"""What is expected of a foreign test suite: the tests that are left out, and those that fail, each with its reason.

A list has one test a line: its name, what is expected of it, and the reason. A test that is not listed must pass.

    out        it is not run
    fails      it is run, and it must not pass (a test that skips itself has not passed)
    slow       it must pass, and is not run in the short form
    one-shard  it must pass against a broker of one shard; what it takes for granted does not hold for several
    races      it has a race of its own, and is run again, twice at most, if it loses it; then it must pass
"""

from collections import namedtuple

KINDS = ("out", "fails", "slow", "one-shard", "races")

Expectation = namedtuple("Expectation", "kind reason")
# state is PASSED, FAILED or SKIPPED; detail is a line of the failure.
Result = namedtuple("Result", "state seconds detail")


def read(path):
    """The list in `path`, as a dictionary by the test's name."""
    expected = {}
    with open(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split(None, 2)
            if len(fields) != 3 or fields[1] not in KINDS or fields[0] in expected:
                raise SystemExit(f"{path}:{number}: wanted: NAME {'|'.join(KINDS)} REASON, each name once: {line.strip()}")
            expected[fields[0]] = Expectation(fields[1], fields[2].strip())
    return expected


def chosen(names, expected, only=None, short=False):
    """The tests of `names` to run: those that `only` (parts of names) asks for, else all that are not left out."""
    if only:
        return [name for name in names if any(part in name for part in only)]
    left_out = ("out", "slow") if short else ("out",)
    return [name for name in names if name not in expected or expected[name].kind not in left_out]


def report(suite, names, expected, results):
    """Prints what passes and what does not, and why. True if everything is as expected."""
    surprises = [f"{name} is in the list, but {suite} has no such test" for name in expected if name not in names]
    for name, result in results.items():
        kind = expected[name].kind if name in expected else None
        if result.state == "PASSED" and kind == "fails":
            surprises.append(f"{name} passes now: take it out of the list")
        if result.state != "PASSED" and kind not in ("fails", "out"):
            surprises.append(f"{name} {result.state}: {result.detail}")
    for name in results:
        if results[name].state == "PASSED":
            print(f"passes    {name} ({results[name].seconds:.1f} s)")
    for kind in ("fails", "out"):
        for name in names:
            if name in expected and expected[name].kind == kind:
                print(f"{kind:9} {name}: {expected[name].reason}")
    passed = sum(result.state == "PASSED" for result in results.values())
    listed = {kind: sum(expected[name].kind == kind for name in names if name in expected) for kind in ("fails", "out")}
    print(f"{suite}: of {len(names)} tests {len(results)} were run and {passed} pass; "
          f"{listed['fails']} are expected to fail, {listed['out']} are left out")
    for surprise in surprises:
        print(f"UNEXPECTED {surprise}")
    return not surprises
