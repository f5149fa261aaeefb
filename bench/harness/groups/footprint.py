"""What the platform takes before anything is called: time to start, memory."""

import tempfile
import time

from harness import cgroups, load, sources
from harness.groups.warm_calls import ANSWERS
from harness.peers import FUNCTIONS
from harness.platform import Platform

STARTS = 10
SETTLE_SECONDS = 2
STEM_SECONDS = 6
SCRIPTS = 50


def start(options):
    """From the start of the process to the first answer of /readyz."""
    samples = []
    for _ in range(STARTS):
        with Platform() as platform:
            samples.append(platform.ready_seconds * 1000)
    return [load.spread(samples)]


def memory(options):
    """Memory of the idle platform, of a waiting stem cell, of one idle instance, of one idle script."""
    with Platform() as platform:
        time.sleep(SETTLE_SECONDS)
        rows = [{"what": "server process, nothing deployed", "mib": platform.resident_kib() / 1024},
                {"what": "the server's own pages (PSS)", "mib": cgroups.pss_kib([platform.process.pid]) / 1024},
                {"what": "server and spawner (PSS)", "mib": tree_kib(platform) / 1024}]
    for runtime in options.among("python", "node"):
        with Platform() as platform:
            rows += cells(platform, runtime)
    if "script" in options.among("script"):
        with Platform() as platform, tempfile.TemporaryDirectory() as folder:
            rows += scripts(platform, folder)
    return rows


def tree_kib(platform):
    return cgroups.pss_kib(cgroups.tree(platform.process.pid))


def cells(platform, runtime):
    """After one call there are one instance and the stem cells that wait for the next ones."""
    function = f"{runtime}-hello"
    platform.deploy(FUNCTIONS / function)
    before = tree_kib(platform)
    load.once(platform.call(function, ANSWERS[runtime]))
    time.sleep(STEM_SECONDS)
    rows = [{"what": f"zygote, stem cells and one idle instance, {runtime} (PSS of all)",
             "mib": (tree_kib(platform) - before) / 1024}]
    found = cgroups.cells(platform.process.pid)
    # The largest is the instance: it has imported the function's code and run a call.
    by_size = sorted(found, key=cgroups.charged_kib)
    for what, group in (("one waiting stem cell", by_size[0]), ("one idle instance", by_size[-1])):
        rows += [{"what": f"{what}, {runtime} (charged to its control group, the kernel's share included)",
                  "mib": cgroups.charged_kib(group) / 1024},
                 {"what": f"{what}, {runtime} (PSS: with its share of what it has in common with the others)",
                  "mib": cgroups.pss_kib(found[group]) / 1024}]
    return rows


def scripts(platform, folder):
    if not platform.can_run("script"):
        return [{"what": "one idle script", "note": "no runtime script in this build"}]
    for number in range(SCRIPTS):
        platform.deploy(sources.variant(folder, "script-hello", f"script-{number}", change=number, max_instances=1))
    sizes = []
    for number in range(SCRIPTS):
        load.once(platform.call(f"script-{number}", ANSWERS["script"]))
        if number in (0, SCRIPTS - 1):
            time.sleep(SETTLE_SECONDS)
            sizes.append(tree_kib(platform))
    return [{"what": "script host with one script (PSS of all, the platform included)", "mib": sizes[0] / 1024},
            {"what": "one more idle script (PSS)", "mib": (sizes[1] - sizes[0]) / (SCRIPTS - 1) / 1024}]
