"""The parser's example of docs/ does what it says."""

import httpx
import pytest
from documentation import run


def test_the_parser() -> None:
    names = run("from sse_fast import EventParser")

    def answer(request: httpx.Request) -> httpx.Response:
        first = int(request.headers.get("last-event-id", "0")) + 1
        text = "".join(f"event: tick\nid: {n}\ndata: {n}\n\n" for n in (first, first + 1))
        media_type = "text/event-stream" if first < 5 else "text/html"
        return httpx.Response(200, headers={"Content-Type": media_type}, text=text)

    with httpx.Client(base_url="http://edge.test", transport=httpx.MockTransport(answer)) as client:
        assert list(names["ticks"](client)) == [("1", "tick", 1), ("2", "tick", 2)]
        assert list(names["ticks"](client, "2")) == [("3", "tick", 3), ("4", "tick", 4)]
        with pytest.raises(ValueError, match="no event stream"):
            list(names["ticks"](client, "4"))
