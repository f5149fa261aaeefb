"""Sources of functions: variants of those in bench/functions, and folders of many small ones."""

import json
import pathlib
import tempfile

from harness.peers import FUNCTIONS

# The platform takes so many in one archive.
FUNCTIONS_PER_DEPLOY = 100


def variant(folder, source, name=None, change=None, **keys):
    """A copy of one of the functions with other keys in its manifest, and a file that makes its code another's where
    `change` is given."""
    target = pathlib.Path(folder) / (name or source)
    target.mkdir(parents=True, exist_ok=True)
    for file in (FUNCTIONS / source).iterdir():
        copy = target / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(file.stat().st_mode)
    if change is not None:
        (target / "change.txt").write_text(str(change))
    keys = {"name": name or source, **keys}
    kept = [line for line in (target / "alula.toml").read_text().splitlines() if line.split(" = ")[0] not in keys]
    (target / "alula.toml").write_text("\n".join([*kept, *map(toml, keys.items())]) + "\n")
    return target


def toml(pair):
    return f"{pair[0]} = {json.dumps(pair[1])}"


def deploy_all(platform, write, count, **keys):
    """Deploys functions 0 to `count` as `write` makes them, as many at a time as a deploy takes."""
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, count, FUNCTIONS_PER_DEPLOY):
            part = pathlib.Path(folder) / str(first)
            part.mkdir()
            write(part, range(first, min(first + FUNCTIONS_PER_DEPLOY, count)), **keys)
            platform.deploy(part)


def programs(folder, numbers):
    """A folder of small programs for `exec`, no two of them alike, each with a route."""
    manifest = ["[defaults]", 'runtime = "exec"', 'command = ["./run.sh"]']
    for number in numbers:
        source = folder / f"f{number:05}"
        source.mkdir()
        (source / "run.sh").write_text(f"#!/bin/sh\necho {number}\n")
        (source / "run.sh").chmod(0o755)
        manifest += [f"[functions.f{number:05}]", f'source = "f{number:05}"', f'routes = ["GET /f{number:05}/{{id}}"]']
    (folder / "alula.toml").write_text("\n".join(manifest) + "\n")


def counters(folder, numbers, **keys):
    """A folder of Python functions; each answers with its number and how often its process was called before."""
    manifest = ["[defaults]", 'runtime = "python3"', *map(toml, keys.items())]
    for number in numbers:
        source = folder / f"c{number:03}"
        source.mkdir()
        (source / "main.py").write_text(COUNTER.format(number=number))
        manifest += [f"[functions.c{number:03}]", f'source = "c{number:03}"']
    (folder / "alula.toml").write_text("\n".join(manifest) + "\n")


COUNTER = """\
import itertools

calls = itertools.count()


def handler(event, context):
    return {{"statusCode": 200, "body": f"{number} {{next(calls)}}"}}
"""
