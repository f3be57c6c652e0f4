"""A hub in the frameworks' own apps, under the real servers in processes of their own."""

from pathlib import Path

import pytest
from served import SERVERS, served
from support import Listener, until

FRAMEWORKS = ("fastapi", "starlette", "litestar")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("server", SERVERS)
async def test_streams_begin_resume_and_end_under_every_server_in_every_framework(server: str, framework: str) -> None:
    async with served(server, Path(__file__).parent, f"hub_apps:{framework}") as app:

        async def publish(text: str) -> str:
            answer = await app.http.post("/publish/a", content=text)
            assert answer.is_success, answer.text
            return answer.text.strip('"')

        # What is published arrives, from the loop and from a thread.
        async with await Listener.open(app.port, "/events/a") as first:
            assert (first.status, first.headers[b"x-own"]) == (200, b"1")
            assert first.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
            one = await publish("one")
            assert (await app.http.post("/work/a")).is_success
            await first.read_count(2)
            assert first.data == ["one", "worked"]
            assert first.events[1].last_event_id == one
        # The client that left is noticed.
        await until(lambda: "left 1 client" in app.log)
        assert app.log.count("joined 1 live") == app.log.count("left 1 ") == 1

        # It comes back and gets what it missed.
        await publish("two")
        async with await Listener.open(app.port, "/events/a", last_event_id=one) as second:
            await publish("three")
            await second.read_count(3)
            assert second.told("$connected") == [{"resume": "complete"}]
            assert second.data == ["worked", "two", "three"]

            # The server stops while it listens: it is told, everybody leaves, and nothing hangs.
            status = await app.stop()
            await second.read_to_the_end()
            assert second.told("$closing") == [{"reason": "shutdown"}]
        log = app.log
        print(log)  # pytest shows the two ends of a long text, and its midst is what tells
        assert "left 2 shutdown" in log
        assert "lifespan ended" in log
        assert "Traceback" not in log
        assert status in (0, -15)  # some end by the signal they were sent
