"""Measures the release binary and writes a Markdown report. Run it by `bench/run`."""

import argparse
import pathlib
import platform as machine
import os
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.groups import GROUPS  # noqa: E402  (the path is set first)

RESULTS = pathlib.Path(__file__).parent / "results"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default=",".join(GROUPS), help="groups, separated by commas")
    arguments.add_argument("--seconds", type=int, default=6, help="length of one warm point")
    options = arguments.parse_args()

    sections = [heading()]
    for name in options.only.split(","):
        print(f"measuring {name}: {GROUPS[name].__doc__}", file=sys.stderr, flush=True)
        rows = GROUPS[name](options.seconds)
        sections.append(f"## {name}\n\n{GROUPS[name].__doc__}\n\n{table(rows)}")
        print(table(rows), file=sys.stderr, flush=True)
    report = "\n\n".join(sections) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.md").write_text(report)
    print(report)


def heading():
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (f"# Measured {time.strftime('%Y-%m-%d')}\n\n{os.cpu_count()} cores, {memory_gib:.0f} GiB, "
            f"Linux {machine.release()}, {machine.machine()}; the load generator is on the same cores.")


def table(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value):
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
