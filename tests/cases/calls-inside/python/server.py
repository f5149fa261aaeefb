"""A server of its own, on the port that it is told, which calls a function for every request."""

import os
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        url = f"{os.environ['ALULA_FUNCTIONS_URL']}/function/told"
        request = urllib.request.Request(url, body, {"content-type": "text/plain"})
        with urllib.request.urlopen(request) as answer:
            content = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
