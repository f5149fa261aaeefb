"""A Lambda function as it stands in its own documentation: nothing here knows where it runs."""


def handler(event, context):
    if event.get("rawQueryString") == "fail":
        raise ValueError("asked to fail")
    name = event.get("name") or event["queryStringParameters"]["name"]
    print("greeting", name)
    return {"hello": name, "version": context.function_version}
