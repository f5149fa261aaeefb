import os
import urllib.request


def handler(event, context):
    headers = event["headers"]
    told = event["requestContext"].get("authorizer", {})
    return {
        "caller": told.get("principalId", "nobody"),
        "header": headers.get("x-alula-caller", "nobody"),
        "authorization": headers.get("authorization", "none"),
    }


def ask(event, context):
    url = os.environ["ALULA_FUNCTIONS_URL"] + "/function/nobody-outside"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return {"statusCode": 200, "body": answer.read().decode()}
