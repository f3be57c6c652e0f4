"""The encoder in Flask. WSGI gives each stream a thread, so this is for few streams that end; for many, for resuming
and for channels run `sse-fast serve` beside Flask and publish to it over HTTP.

    flask --app examples/recipes/flask_app run
    curl -N localhost:5000/countdown
"""

import time
from collections.abc import Iterator

from flask import Flask, Response

from sse_fast import encode

PAUSE = 0.5  # seconds

app = Flask(__name__)


@app.get("/countdown")
def countdown() -> Response:
    def events() -> Iterator[bytes]:
        for number in (3, 2, 1):
            yield encode({"left": number}, event="tick", id=str(number))
            time.sleep(PAUSE)
        yield encode("lift-off", event="done")

    headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
    return Response(events(), mimetype="text/event-stream", headers=headers)
