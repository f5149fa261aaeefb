def handler(event, context):
    """Greets whoever `?name=` names."""
    name = (event.get("queryStringParameters") or {}).get("name", "world")
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": f"hello, {name}\n"}
