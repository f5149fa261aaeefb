import json


def handler(event, context):
    name = (event.get("queryStringParameters") or {}).get("name", "world")
    print("greeting", name)
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": f"Hello, {name}!", "id": context.aws_request_id}),
    }
