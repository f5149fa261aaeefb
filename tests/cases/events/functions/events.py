"""Functions that events reach."""


def big(event, context):
    """An order of more than a hundred."""
    print("order", event["id"], "of", event["data"]["total"])


def mirror(event, context):
    """Whatever it was called with; a CloudEvent, if it was one."""
    return event


def hook(event, context):
    """A request of GitHub, which waits for this."""
    return {"statusCode": 200, "body": f"pushed {event['headers']['x-github-event']}: {event['body']}"}


def circle(event, context):
    """Is told of its own end, which never ends."""
    print("lineage", context.lineage.split(":")[1])
    return "again"
