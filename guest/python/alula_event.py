"""Event handlers: HTTP requests as events of the Lambda function URL format 2.0, and values as responses."""

from base64 import b64decode, b64encode, urlsafe_b64decode
from time import gmtime, time

from alula_frames import (
    ARENA, BODY_MAX, DATA, END, EVENT, FAIL_BAD_RESULT, FAIL_TOO_LARGE, MORE, REPLY, RESULT, frame, pack,
)

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "+json", "+xml")
LINEAGE = "x-alula-lineage"
KNOWN_TYPES_MAX = 256  # content types whose class is remembered

json = None  # imported at the first use


class BadResult(Exception):
    """What the handler returned is not an answer."""

    fail_class = FAIL_BAD_RESULT


class ResultTooLarge(Exception):
    """The body of the answer is over the function's limit."""

    fail_class = FAIL_TOO_LARGE


class Context:
    """What a handler can learn about its call."""

    __slots__ = ("aws_request_id", "deadline_ms", "settings", "fields")
    identity = client_context = None

    def __init__(self, fields, settings):
        self.aws_request_id, self.deadline_ms, self.settings, self.fields = fields[3], fields[4], settings, fields

    def get_remaining_time_in_millis(self):
        return max(0, int(self.deadline_ms) - int(time() * 1000))

    @property
    def lineage(self):
        """What calls of other functions are to carry in the header X-Alula-Lineage."""
        fields = self.fields
        headers_at = 6 + 2 * int(fields[5])
        return next((value for name, value in zip(fields[headers_at::2], fields[headers_at + 1 :: 2]) if name == LINEAGE), "")

    function_name = property(lambda self: self.settings.function)
    function_version = property(lambda self: self.settings.version)
    memory_limit_in_mb = property(lambda self: self.settings.memory_mb)
    log_group_name = property(lambda self: f"/alula/{self.settings.namespace}/{self.settings.function}")
    log_stream_name = property(lambda self: self.settings.instance)
    invoked_function_arn = property(
        lambda self: f"arn:aws:lambda:local:{self.settings.namespace}:function:{self.settings.function}:{self.settings.version}"
    )

    def log(self, text):
        print(text)


def load_json():
    global json
    import json as module

    json = module


def is_text(content_type, known={}):
    answer = known.get(content_type)
    if answer is None:
        lower = content_type.lower()
        answer = any(text in lower for text in TEXT_TYPES)
        if len(known) < KNOWN_TYPES_MAX:
            known[content_type] = answer
    return answer


class Clock:
    """The time of an event in the format of access logs; made once a second."""

    second, text = -1, ""

    def stamp(self, now):
        second = int(now)
        if second != self.second:
            t = gmtime(second)
            self.text = f"{t[2]:02}/{MONTHS[t[1] - 1]}/{t[0]}:{t[3]:02}:{t[4]:02}:{t[5]:02} +0000"
            self.second = second
        return self.text


clock = Clock()


def fold_headers(fields):
    """Names in lower case; values of a repeated name joined as the format asks for."""
    headers = dict(zip(fields[::2], fields[1::2]))
    if len(headers) * 2 != len(fields):
        headers = {}
        for name, value in zip(fields[::2], fields[1::2]):
            joint = "; " if name == "cookie" else ","
            headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    return headers


def authorizer(headers):
    """Who calls, as the platform says, and what a token of another authority says about that."""
    told = {"principalId": headers["x-alula-caller"]}
    claims = headers.get("x-alula-claims")
    if claims is not None:
        load_json()
        claims = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        scope = claims.get("scope")
        told["jwt"] = {"claims": claims, "scopes": scope.split() if isinstance(scope, str) else None}
    return told


def http_event(fields, body):
    method, target, remote, request_id = fields[0], fields[1], fields[2], fields[3]
    count = int(fields[5])
    headers = fold_headers(fields[6 + 2 * count :])
    path, _, query = target.partition("?")
    host = headers.get("host", "")
    now = time()
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "alula",
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": remote,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": clock.stamp(now),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if "x-alula-caller" in headers:
        event["requestContext"]["authorizer"] = authorizer(headers)
    if "cookie" in headers:
        event["cookies"] = headers.pop("cookie").split("; ")
    if query:
        event["queryStringParameters"] = fold_query(query)
    if count:
        values = [text.encode("latin-1").decode("utf-8", "replace") for text in fields[6 : 6 + 2 * count]]
        event["pathParameters"] = dict(zip(values[::2], values[1::2]))
    if body:
        add_body(event, headers.get("content-type", ""), body)
    return event


def fold_query(query):
    from urllib.parse import parse_qsl

    values = {}
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=10_000):
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def add_body(event, content_type, body):
    if is_text(content_type):
        try:
            event["body"] = str(body, "utf-8")
            return
        except UnicodeDecodeError:
            pass
    event["body"] = b64encode(body).decode("ascii")
    event["isBase64Encoded"] = True


def to_json(value):
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        # Half of a surrogate pair, as file names may have: JSON can only escape it.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the handler's value cannot be written as JSON: {error}") from None


def header_fields(value):
    """Names and values of a response's headers, in order, as they go on the wire."""
    fields = []
    for name, text in (value.get("headers") or {}).items():
        fields += (str(name), text if type(text) is str else str(text))
    for name, texts in (value.get("multiValueHeaders") or {}).items():
        for text in texts:
            fields += (str(name), str(text))
    for cookie in value.get("cookies") or ():
        fields += ("set-cookie", str(cookie))
    return fields


def http_answer(link, call, value, limit):
    if not isinstance(value, dict) or "statusCode" not in value:
        return reply(link, call, 200, b"content-type\0application/json", to_json(value), limit)
    try:
        status = int(value["statusCode"])
        fields = header_fields(value)
        text = "\0".join(fields)
        meta = text.encode("latin-1")
    except UnicodeEncodeError:
        raise BadResult("a header of the response has a character outside Latin-1; encode it") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise BadResult(f"statusCode or headers of the response are malformed: {error}") from None
    if not 100 <= status <= 999:
        raise BadResult(f"statusCode is {status}, which is not an HTTP status")
    if text.count("\0") > max(0, len(fields) - 1):
        raise BadResult("a header of the response has a NUL character")
    if b"content-type" not in meta.lower():
        meta += b"\0content-type\0application/json" if meta else b"content-type\0application/json"
    return reply(link, call, status, meta, body_bytes(value), limit)


def body_bytes(value):
    body = value.get("body")
    if type(body) is str:
        if value.get("isBase64Encoded"):
            try:
                return b64decode(body)
            except ValueError as error:
                raise BadResult(f"the body of the response is not base64: {error}") from None
        return body.encode("utf-8", "surrogatepass")
    if body is None:
        return b""
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else to_json(body)


def reply(link, call, status, meta, body, limit):
    size = len(body)
    if size > limit:
        raise ResultTooLarge(f"the body of the response has {size} bytes, at most {limit} are allowed")
    if size <= BODY_MAX:
        return pack(len(meta) + size, REPLY, 0, status, call, len(meta)) + meta + body
    return long(link, REPLY, call, status, meta, body)


def long(link, kind, call, status, meta, body):
    """An answer with a body that is too long for a frame: in shared memory, or in DATA frames after it."""
    place = link.arena and link.arena.put(body)
    if place:
        return frame(kind, call, status, ARENA, meta, place)
    parts = [frame(kind, call, status, MORE, meta)]
    for at in range(0, len(body), BODY_MAX):
        end = at + BODY_MAX
        parts.append(frame(DATA, call, flags=END if end >= len(body) else 0, body=body[at:end]))
    return b"".join(parts)


def result(link, call, value, limit):
    body = to_json(value)
    if len(body) > limit:
        raise ResultTooLarge(f"the value has {len(body)} bytes as JSON, at most {limit} are allowed")
    if len(body) <= BODY_MAX:
        return frame(RESULT, call, body=body)
    return long(link, RESULT, call, 0, b"", body)


def arguments(settings, flags, meta, body):
    """Event and context of a call."""
    fields = meta.decode("latin-1").split("\0")
    context = Context(fields, settings)
    if flags & EVENT:
        if json is None:
            load_json()
        return (json.loads(text_of(body)) if body else None), context
    return http_event(fields, body), context


def text_of(body):
    """JSON as its parser takes it; shared memory is not."""
    if type(body) is bytes:
        return body
    return str(body, json.detect_encoding(bytes(body[:4])), "surrogatepass")


def answer(link, settings, call, flags, value):
    """The frames that answer a call with `value`."""
    if json is None:
        load_json()
    if flags & EVENT:
        return result(link, call, value, settings.response_bytes_max)
    return http_answer(link, call, value, settings.response_bytes_max)


def runner(link, settings, handler):
    """The function that runs one call and gives the frames of its answer."""
    run_until_complete = None

    def run(call, flags, meta, body):
        nonlocal run_until_complete
        event, context = arguments(settings, flags, meta, body)
        value = handler(event, context)
        if hasattr(value, "__await__"):
            if run_until_complete is None:
                import asyncio

                loop = asyncio.new_event_loop()
                asyncio.set_event_loop(loop)
                run_until_complete = loop.run_until_complete
            value = run_until_complete(value)
        link.cancellable = 0
        return answer(link, settings, call, flags, value)

    return run
