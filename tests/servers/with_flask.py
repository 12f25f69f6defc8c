"""Flask, as its documentation begins."""

import os

from flask import Flask

app = Flask(__name__)


@app.route("/")
def who():
    return os.environ["NODE_APP_INSTANCE"]
