"""A function that may have one request in flight and calls itself, and one that may have any number."""

import json
import os
import urllib.error
import urllib.request


def handler(event, context):
    """Tells how the call of itself ended."""
    request = urllib.request.Request(os.environ["ALULA_FUNCTIONS_URL"] + "/function/narrow", b"{}")
    try:
        with urllib.request.urlopen(request) as answer:
            told = f"{answer.status} let through"
    except urllib.error.HTTPError as refusal:
        error = json.load(refusal)["error"]
        policy = refusal.headers["RateLimit-Policy"]
        told = f"{refusal.code} {error['code']} {error['limit']['name']} {policy}"
    return {"statusCode": 200, "body": told}


def wide(event, context):
    """Answers."""
    return {"statusCode": 200, "body": "through"}
