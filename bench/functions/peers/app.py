"""The smallest handler and the echo as a Flask application behind waitress: `app.py PORT`."""

import sys

from flask import Flask, request
from waitress import serve

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, World!\n"


@app.post("/echo")
def echo():
    return request.get_data()


serve(app, host="127.0.0.1", port=int(sys.argv[1]))
