"""Measures the release binary and writes a Markdown report. Run it by `bench/run`."""

import argparse
import dataclasses
import os
import pathlib
import platform as machine
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.groups import GROUPS  # noqa: E402  (the path is set first)

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Options:
    """What groups are told: seconds of one point, how often each point is measured, which runtimes (all where empty)."""

    seconds: int
    rounds: int
    runtimes: tuple[str, ...]

    def among(self, *runtimes):
        return [runtime for runtime in runtimes if not self.runtimes or runtime in self.runtimes]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", type=names, default=tuple(GROUPS), help="groups, separated by commas")
    arguments.add_argument("--runtimes", type=names, default=(), help="in groups of several runtimes, these alone")
    arguments.add_argument("--seconds", type=int, default=6, help="length of one warm point")
    arguments.add_argument("--rounds", type=int, default=3, help="how often a warm point is measured; the median counts")
    given = arguments.parse_args()
    if unknown := set(given.only) - set(GROUPS):
        arguments.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")

    options = Options(given.seconds, given.rounds, given.runtimes)
    sections = [heading(options)]
    for name in given.only:
        print(f"measuring {name}: {GROUPS[name].__doc__}", file=sys.stderr, flush=True)
        rows = GROUPS[name](options)
        sections.append(f"## {name}\n\n{GROUPS[name].__doc__}\n\n{table(rows)}")
        print(table(rows), file=sys.stderr, flush=True)
        # Written after each group: what was measured stays when a later one fails.
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "latest.md").write_text("\n\n".join(sections) + "\n")


def names(text):
    return tuple(name for name in text.split(",") if name)


def heading(options):
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (f"# Measured {time.strftime('%Y-%m-%d')}\n\n{os.cpu_count()} cores, {memory_gib:.0f} GiB, "
            f"Linux {machine.release()}, {machine.machine()}; the load generator is on the same cores. Points of "
            f"{options.seconds} s, the median of {options.rounds} rounds; ours and the peers by turns.")


def table(rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def cell(value):
    return f"{value:,.2f}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
