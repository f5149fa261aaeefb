"""Calls that nobody waits for: accepting them, running them, and what a long queue costs."""

import time

from harness import load
from harness.peers import FUNCTIONS
from harness.platform import Platform

FUNCTION = "python-hello"
BODY = b"x" * 100
PRODUCERS = (1, 16, 256)
BACKLOGS = (1_000, 1_000_000)
KEYS = 1_000
POLL_SECONDS = 0.05
# A run is looked at for so long, or until the queue is empty.
RUNNING_SECONDS_MAX = 15


def accept(options):
    """Acceptances a second, each durable before it is answered, while the calls wait and while they run."""
    rows = []
    for state in ("waiting", "running"):
        with later() as (platform, call):
            if state == "waiting":
                platform.alula("queue", "pause", FUNCTION)
            for producers in PRODUCERS:
                taken = [load.wrk(call, producers, options.seconds) for _ in range(options.rounds)]
                rows.append({"calls are": state, "producers": producers, **load.medians(taken)})
    return rows


def run(options):
    """Calls run from the queue a second on one instance, and those of a thousand ordering keys."""
    rows = []
    for what, script in (("no keys", load.POST), (f"{KEYS} keys", load.POST_KEYS)):
        with later() as (platform, call):
            rates = [running(platform, call, options.seconds, script) for _ in range(options.rounds)]
            rows.append({"what": what, **load.medians(rates)})
    return rows


def backlog(options):
    """A queue of a thousand and of a million calls: growth of the platform's memory, and how fast it is run."""
    rows = []
    for depth in BACKLOGS:
        with later() as (platform, call):
            before_kib = platform.resident_kib()
            platform.alula("queue", "pause", FUNCTION)
            while counted(platform, "accepted") < depth:
                load.wrk(call, 64, 1 if depth < 10_000 else 10)
            full_kib = platform.resident_kib()
            rate = drained(platform)
            rows.append({"about": depth, **rate, "before_MiB": before_kib / 1024, "full_MiB": full_kib / 1024,
                         "running_MiB": platform.resident_kib() / 1024})
    return rows


class later:
    """A platform with one deployed function, and the call of it that is answered at once."""

    def __enter__(self):
        self.platform = Platform().__enter__()
        self.platform.deploy(FUNCTIONS / FUNCTION)
        url = self.platform.url(FUNCTION).replace("/function/", "/async-function/")
        return self.platform, load.Call(url, None, BODY, status=202)

    def __exit__(self, *failure):
        self.platform.__exit__(*failure)


def running(platform, call, seconds, script):
    """Fills the queue while nothing of it runs, and runs it."""
    platform.alula("queue", "pause", FUNCTION)
    load.wrk(call, 64, seconds, script)
    return drained(platform)


def drained(platform):
    """The rate at which a paused queue is run, and the longest time in which nothing of it ended."""
    first = done = last_seen_done = counted(platform, "ended")
    accepted = counted(platform, "accepted")
    platform.alula("queue", "resume", FUNCTION)
    began = last_seen = seen = time.perf_counter()
    longest = 0.0
    while done < accepted and seen - began < RUNNING_SECONDS_MAX:
        time.sleep(POLL_SECONDS)
        done, seen = counted(platform, "ended"), time.perf_counter()
        if done != last_seen_done:
            longest, last_seen_done, last_seen = max(longest, seen - last_seen), done, seen
    return {"calls": done - first, "per_s": (done - first) / (seen - began), "longest_pause_s": longest}


def counted(platform, what):
    """One of the platform's counters of asynchronous calls, over all of its labels."""
    lines = platform.metrics().splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"alula_async_{what}_total"))
