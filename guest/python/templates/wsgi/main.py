def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain; charset=utf-8")])
    return [f"Hello from {environ['PATH_INFO']}\n".encode()]
