"""Answers of Starlette's routes: JSON that nobody keeps, and what was decided elsewhere."""

from typing import Any

import orjson
from starlette.responses import Response

from sse_fast.protocol.decision import Answer


def json(content: Any, status: int = 200) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(content), status_code=status, headers=headers, media_type="application/json")


def response_of(answer: Answer) -> Response:
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = list(answer.headers)
    return response
