"""Looks at the end of what it was sent."""


def handler(event, context):
    body = event["body"]
    return {"statusCode": 200, "body": f"{len(body)} {body[-1:]}"}
