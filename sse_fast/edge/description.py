"""What this edge is, for tools: `/openapi.json` (3.2), `/openapi-3.1.json`, `/asyncapi.json`. Each is made when it is
asked for."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sse_fast.protocol.native import parameters_of
from sse_fast.protocol.policy import Policy
from sse_fast.settings import Settings
from sse_fast.version import VERSION

if TYPE_CHECKING:
    from sse_fast.schema.shape import Document

PATHS = ("/openapi.json", "/openapi-3.1.json", "/asyncapi.json")


class Description:
    """Of the edge of these settings. policy: what it decides by. document: of its typed events; None: it has none."""

    def __init__(
        self, settings: Settings, policy: Callable[[], Policy], document: Callable[[], "Document | None"]
    ) -> None:
        self._settings, self._policy, self._document = settings, policy, document
        self._texts: dict[tuple[str, str], bytes] = {}  # where it is mounted is no stranger's to say

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        parameters_of(request.scope["query_string"], path)
        which = path.rpartition("/")[2], request.scope.get("root_path", "")
        if which not in self._texts:  # that of a large schema takes longer than a turn of the loop may
            self._texts[which] = await asyncio.to_thread(self._make, *which)
        text = self._texts[which]
        return Response(text, headers={"cache-control": "no-cache"}, media_type="application/json")

    def _make(self, name: str, root: str) -> bytes:
        if name == "asyncapi.json":
            return orjson.dumps(self.asyncapi(root))
        return orjson.dumps(self.openapi("3.1" if "3.1" in name else "3.2", root))

    def openapi(self, version: str = "3.2", root: str = "") -> dict[str, Any]:
        """version: 3.2 or 3.1. root: the path in front of all."""
        from sse_fast.edge.openapi import openapi  # here, as nobody else needs what it loads

        return openapi(self._settings, self._policy(), self._document(), version, root)

    def asyncapi(self, root: str = "") -> dict[str, Any]:
        from sse_fast.schema.asyncapi import asyncapi

        settings, access = self._settings, self._policy().access
        return asyncapi(
            self._document(),
            info={"title": "sse_fast", "version": VERSION},
            host=f"{settings.host}:{settings.port}",
            root=root,
            secured=access.tokens is not None or access.publishers.keyed,
            tls=settings.ssl_certificate is not None,
        )
