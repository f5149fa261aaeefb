"""Is told by an outside S3 store what changed in its buckets."""

import json
from urllib.parse import unquote_plus


def arrived(event, context):
    records = json.loads(event["body"])["Records"]
    told = [(record["eventName"], unquote_plus(record["s3"]["object"]["key"])) for record in records]
    return {"statusCode": 200, "body": "; ".join(f"{name} {key}" for name, key in told)}
