"""Errors as `application/problem+json` (RFC 9457): what was wrong, where, and what would be right."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from starlette.responses import Response


class Problem(Response):
    """Problem(status, detail, headers): an answer that is also an ASGI app."""

    media_type = "application/problem+json"

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(orjson.dumps(body), status_code=status, headers=headers)
