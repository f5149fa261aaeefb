import wit_world.exports
from componentize_py_types import Err, Ok
from wit_world.imports.types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam


def read(request):
    content = b""
    # In this order: a body must not be dropped before its stream.
    with request.consume() as body, body.stream() as stream:
        try:
            while True:
                content += stream.blocking_read(65536)
        except Err:
            return content


class IncomingHandler(wit_world.exports.IncomingHandler):
    def handle(self, request, response_out):
        path = request.path_with_query() or "/"
        content = read(request) if path.startswith("/echo") else b"hello from Python\n"
        response = OutgoingResponse(Fields())
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(content)
        OutgoingBody.finish(body, None)
