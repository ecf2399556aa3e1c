"""The same greeting, by Flask."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!\n"
