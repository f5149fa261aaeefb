"""Functions that never stop by themselves, and hand on nothing of where they come from."""

import json
import os
import urllib.error
import urllib.request

HERE = os.environ["ALULA_FUNCTION"]


def ask(path, body=b"{}"):
    """The status and the content of the answer."""
    request = urllib.request.Request(os.environ["ALULA_FUNCTIONS_URL"] + path, body)
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def again(event, context):
    """Calls itself and waits; answers how often, and how it ended."""
    status, body = ask(f"/function/{HERE}")
    if status == 200:
        times, end = body.split(":", 1)
        return {"statusCode": 200, "body": f"{int(times) + 1}:{end}"}
    return {"statusCode": 200, "body": f"1: {status} {json.loads(body)['error']['code']}"}


def ping(event, context):
    """Calls the other one without waiting."""
    print("lineage", context.lineage.split(":")[1])
    ask("/async-function/pong")


def pong(event, context):
    """Calls the first one without waiting."""
    print("lineage", context.lineage.split(":")[1])
    ask("/async-function/ping")


def round(event, context):
    """Publishes what it is called for."""
    print("lineage", context.lineage.split(":")[1])
    ask("/topic/round")
