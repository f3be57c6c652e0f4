"""Which pages of other origins may read an answer: Starlette's middleware, its headers where they survive a cut."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Send


class CrossOrigin(CORSMiddleware):
    """What it adds stands directly behind the content type. A browser takes a head that breaks off for whole; one that
    says neither what it is nor who may read it ends an EventSource for good, and anything after that does not."""

    async def send(self, message: Message, send: Send, request_headers: Headers) -> None:
        async def in_order(message: Message) -> None:
            message["headers"] = sorted(message["headers"], key=place)
            await send(message)

        start = message["type"] == "http.response.start"
        await super().send(message, in_order if start else send, request_headers)


def place(header: tuple[bytes, bytes]) -> int:
    """Where a header stands among others."""
    if header[0] == b"content-type":
        return 0
    return 1 if header[0].startswith(b"access-control-") else 2
