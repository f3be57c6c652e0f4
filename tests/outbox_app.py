"""An app with the relay of its outbox, for a server of several workers; OUTBOX names the database."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sse_fast import Hub
from sse_fast.outbox import OutboxRelay

hub = Hub()
relay = OutboxRelay(hub, os.environ["OUTBOX"], poll=0.2)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with hub, relay:
        yield


async def leads(request: Request) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), "leads": relay.stats.leading})


app = Starlette(routes=[Route("/leads", leads)], lifespan=lifespan)
