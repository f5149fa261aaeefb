import asyncio


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for count in range(3):
        await send({"type": "http.response.body", "body": b"tick %d\n" % count, "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body", "body": b"done\n"})
