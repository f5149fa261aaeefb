"""Many cold starts: all at once, and many a second."""

from harness import load, sources
from harness.platform import Platform

BURST = 200
PER_SECOND = 100
SUSTAINED_SECONDS = 10
# Enough functions that each is called once in two seconds, and gone again before its next call.
SUSTAINED_FUNCTIONS = 200
GONE_AFTER_MS = 500
MEMORY_MB = 64


def burst(options):
    """200 Python functions without an instance, called at the same time."""
    with Platform() as platform:
        sources.deploy_all(platform, sources.counters, BURST, memory_mb=MEMORY_MB)
        calls = first_calls(platform, BURST)
        rows = []
        for _ in range(options.rounds):
            took_ms, failures, seconds = load.crowd(calls)
            rows.append({**load.spread(took_ms), "seconds": seconds, "failed": said(failures)})
            platform.stop()
            platform.start()
        return [load.medians(rows)]


def sustained(options):
    """100 calls a second for ten seconds, each of a Python function that has no instance."""
    with Platform() as platform:
        sources.deploy_all(platform, sources.counters, SUSTAINED_FUNCTIONS, memory_mb=MEMORY_MB,
                           idle_timeout_ms=GONE_AFTER_MS)
        laps = PER_SECOND * SUSTAINED_SECONDS // SUSTAINED_FUNCTIONS
        took_ms, failures, seconds = load.crowd(first_calls(platform, SUSTAINED_FUNCTIONS) * laps, PER_SECOND)
        return [{"starts_per_s": len(took_ms) / seconds, **load.spread(took_ms), "failed": said(failures)}]


def first_calls(platform, count):
    """A call of each function; the right answer is that of a process which was never called before."""
    return [platform.call(f"c{number:03}", f"{number} 0".encode()) for number in range(count)]


def said(failures):
    return f"{len(failures)}: {failures[0]}" if failures else "0"
