"""Functions that call each other."""

import json
import os
import socket
import urllib.request

PORTS = (3128, 3129, 8080)


def told(event, context):
    """What it was called with, and by whom."""
    answer = {"said": event.get("body") or "", "chain": context.lineage.split(":")[1]}
    if event["rawPath"] == "/trace":
        answer["trace"] = event["headers"]["traceparent"]
    return answer


def by_python(event, context):
    """Asks with what the language brings."""
    url = f"{os.environ['ALULA_FUNCTIONS_URL']}/function/told"
    request = urllib.request.Request(url, event["body"].encode(), {"content-type": "text/plain"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def reaches(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def by_none(event, context):
    """May not ask anybody."""
    return {"url": os.environ.get("ALULA_FUNCTIONS_URL"), "reached": [port for port in PORTS if reaches(port)]}
