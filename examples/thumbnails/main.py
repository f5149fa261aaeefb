"""Makes a thumbnail of the image in the request's body.

`?size=` is the longer side of the result in pixels (16 to 1024, 160 where it is missing).
"""

import base64
import io

from PIL import Image, UnidentifiedImageError

SIZE_DEFAULT = 160
SIZE_MIN, SIZE_MAX = 16, 1024


def handler(event, context):
    query = event.get("queryStringParameters") or {}
    try:
        size = int(query.get("size", SIZE_DEFAULT))
    except ValueError:
        return refuse("size must be a whole number")
    if not SIZE_MIN <= size <= SIZE_MAX:
        return refuse(f"size must be {SIZE_MIN} to {SIZE_MAX}")

    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    try:
        image = Image.open(io.BytesIO(data))
        image.thumbnail((size, size))
    except (UnidentifiedImageError, OSError):
        return refuse("the body is not an image that can be read")

    smaller = io.BytesIO()
    image.convert("RGB").save(smaller, "JPEG", quality=85)
    print(f"{len(data)} bytes in, {smaller.tell()} bytes out, {image.width}x{image.height}")
    return {
        "statusCode": 200,
        "headers": {"content-type": "image/jpeg"},
        "body": base64.b64encode(smaller.getvalue()).decode(),
        "isBase64Encoded": True,
    }


def refuse(reason):
    return {"statusCode": 400, "headers": {"content-type": "text/plain"}, "body": reason + "\n"}
