"""A small web application: a greeting and a list that is kept for as long as the instance lives."""

from flask import Flask, jsonify, request

app = Flask(__name__)
notes = []


@app.get("/")
def index():
    return "a Flask application, running as a function\n", {"content-type": "text/plain"}


@app.route("/notes", methods=["GET", "POST"])
def all_notes():
    if request.method == "POST":
        text = request.get_data(as_text=True).strip()
        if not text:
            return jsonify(error="post the text of a note"), 400
        notes.append(text)
    return jsonify(notes=notes)
