#!/usr/bin/env python3
"""Makes the test's text: real lines that Debian ships, each with a number in front.

  corpus.py DIR [--lines N] [--partitions P]

Writes DIR/all.txt with N lines `<number>\\t<text>`, numbers from 0, and DIR/part-<p>.txt with
the lines whose number is p modulo P, in order. Text comes from licences, word lists, changelogs
and manual pages, blank lines kept. Lines that are not UTF-8, hold a carriage return or a NUL
(line-based tools cannot carry them), or are longer than 64 KiB are left out. The same machine
gives the same text. If it has too little text, it is used again from the start, and that is said.
"""
import argparse
import glob
import gzip
import os
import sys

LINE_LIMIT_BYTES = 64 << 10
DEFAULT_LINES = 1_000_000


def texts(pattern):
    for path in sorted(set(map(os.path.realpath, glob.glob(pattern, recursive=True)))):
        if not os.path.isfile(path):
            continue
        try:
            with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
                for line in file:
                    line = line.rstrip(b"\n")
                    if len(line) <= LINE_LIMIT_BYTES and b"\r" not in line and b"\0" not in line and is_utf8(line):
                        yield line
        except (OSError, EOFError):
            continue


def is_utf8(line):
    try:
        line.decode()
        return True
    except UnicodeDecodeError:
        return False


def lines(wanted):
    """Each source may give its share first; what is still missing then comes from any of them."""
    sources = [("licences", "/usr/share/common-licenses/*", 1.0), ("words", "/usr/share/dict/*", 0.2),
               ("changelogs", "/usr/share/doc/*/changelog*.gz", 0.5), ("manual pages", "/usr/share/man/**/*.gz", 1.0)]
    given, report = 0, []
    for rounds in range(1000):
        before = given
        for name, pattern, share in sources:
            limit = min(wanted - given, wanted if rounds else int(wanted * share))
            count = 0
            if limit > 0:
                for line in texts(pattern):
                    yield line
                    count += 1
                    if count == limit:
                        break
            given += count
            report.append(f"{count} {name}" + (f" (round {rounds + 1})" if rounds else ""))
        if given >= wanted:
            print("corpus: " + ", ".join(r for r in report if not r.startswith("0 ")), file=sys.stderr)
            return
        if given == before:
            sys.exit("corpus: no text here; apt-get install wamerican man-db")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--lines", type=int, default=DEFAULT_LINES)
    parser.add_argument("--partitions", type=int, default=6)
    a = parser.parse_args()
    stamp = os.path.join(a.dir, f".complete-{a.lines}-{a.partitions}")
    if os.path.exists(stamp):
        return
    os.makedirs(a.dir, exist_ok=True)
    parts = [open(os.path.join(a.dir, f"part-{p}.txt"), "wb") for p in range(a.partitions)]
    with open(os.path.join(a.dir, "all.txt"), "wb") as whole:
        for number, line in enumerate(lines(a.lines)):
            numbered = b"%d\t%s\n" % (number, line)
            whole.write(numbered)
            parts[number % a.partitions].write(numbered)
    for part in parts:
        part.close()
    open(stamp, "w").close()


if __name__ == "__main__":
    main()
