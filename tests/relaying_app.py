"""An app beside the edge that relays a stream, in every worker of it: RELAYED names the stream."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sse_fast import Hub

hub = Hub()
relay = hub.relay(os.environ["RELAYED"], "news")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub, relay:
        yield


async def leads(request: Request) -> Any:
    return JSONResponse({"pid": os.getpid(), "leads": relay.stats.leading})


app = Starlette(routes=[Route("/leads", leads)], lifespan=lifespan)
