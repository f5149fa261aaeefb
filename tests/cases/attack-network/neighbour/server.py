"""The server that the attacker of this case looks for."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Here(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here\n")


HTTPServer(("", int(os.environ["PORT"])), Here).serve_forever()
