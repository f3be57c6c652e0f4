"""What the tests of Mercure's specification say to a hub, and hear of it."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from conftest import PATIENCE
from httpx_sse import EventSource, ServerSentEvent, connect_sse
from mercure_hubs import DETAIL, ISSUER, KEY, RESOURCE, WELL_KNOWN, access_token, serving, token

SUBSCRIPTIONS = f"{WELL_KNOWN}/subscriptions"
EVERYTHING = {"match": "*"}
ANOTHER_HUB = "SSE_FAST_MERCURE_HUB_{}"  # the URL of a hub of that dialect, to try these tests at
Params = list[tuple[str, str]]


def unique(before: str = "https://example.com/books/") -> str:
    """A topic, or an id, that no other test has."""
    return f"{before}{uuid.uuid4()}"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def claims(**change: Any) -> dict[str, Any]:
    """Of an access token (RFC 9068) that may do everything; None takes a claim away."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": RESOURCE, "sub": "s", "client_id": "c", "jti": "j", "iat": now, "exp": now + 600}
    made |= {"authorization_details": [{"type": DETAIL, "actions": ["publish", "subscribe"], "topics": [EVERYTHING]}]}
    return {name: value for name, value in (made | change).items() if value is not None}


def signed(change: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims(**change), key, algorithm, headers={"typ": "at+jwt"} | header)


class Spoken:
    """A hub, in one dialect."""

    def __init__(self, url: str, dialect: int) -> None:
        self.url, self.dialect = url, dialect
        self.client = httpx.Client(timeout=PATIENCE)
        self.all = token(publish=["*"], subscribe=["*"]) if dialect == 7 else signed({})
        self.everything = "topic" if dialect == 7 else "match"

    def grant(self, *topics: str, action: str = "subscribe", **more: Any) -> str:
        """A token for these topics alone."""
        if self.dialect == 7:
            return token(**{action: list(topics)})
        return access_token(**{action: [{"match": topic} for topic in topics]}, **more)

    def publish(self, *topics: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        form = {"topic": list(topics), **fields}
        return self.client.post(self.url, data=form, headers=bearer(self.all) if headers is None else headers)

    def published(self, *topics: str, **fields: str) -> str:
        answer = self.publish(*topics, **fields)
        assert answer.status_code == 200, answer.text
        return answer.text

    def get(self, params: Params | str, headers: dict[str, str] | None = None) -> httpx.Response:
        """The answer to a subscriber, its head alone if it is a stream."""
        with self.client.stream("GET", self.address(params), headers=headers or {}) as response:
            if response.status_code != 200:
                response.read()
            return response

    def address(self, params: Params | str) -> str:
        return f"{self.url}?{params if isinstance(params, str) else httpx.QueryParams(params)}"

    @contextmanager
    def listening(self, params: Params | str, headers: dict[str, str] | None = None) -> Iterator["Heard"]:
        with connect_sse(self.client, "GET", self.address(params), headers=headers or {}) as source:
            assert source.response.status_code == 200, source.response.read()
            yield Heard(self, source)

    def heard(self, params: Params, *updates: dict[str, Any], to: str | None = None) -> list[str]:
        """The data of those of these updates that a stream gets: what comes before an update that it gets for sure."""
        last = unique("urn:uuid:")
        with self.listening([*params, (self.everything, last)], bearer(to) if to else None) as heard:
            for update in updates:
                topics = update.get("topics") or [update["topic"]]
                fields = {name: value for name, value in update.items() if name not in ("topic", "topics")}
                self.published(*topics, **({"data": topics[0]} | fields))
            self.published(last, data=last)
            return [event.data for event in heard.until(last)]


class Heard:
    """A stream while it is open."""

    def __init__(self, hub: Spoken, source: EventSource) -> None:
        self.hub, self.response, self.events = hub, source.response, source.iter_sse()

    def next(self) -> ServerSentEvent:
        return next(self.events)

    def until(self, data: str) -> list[ServerSentEvent]:
        found = []
        while (event := self.next()).data != data:
            found.append(event)
        return found


def hub_of(dialect: int, directory: Path) -> Iterator[Spoken]:
    """For a fixture: `sse-fast serve --mercure`, or the hub that a variable names."""
    if url := os.environ.get(ANOTHER_HUB.format(dialect)):
        yield Spoken(url, dialect)
        return
    with serving("sse_fast", directory) as url:
        spoken = Spoken(url, dialect)
        yield spoken
        spoken.client.close()


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    """The status, and the error code of its challenge (RFC 6750, section 3); "" for a challenge without one."""
    challenge = answer.headers.get("www-authenticate")
    if challenge is None:
        return answer.status_code, None
    assert challenge.lower().startswith("bearer")
    parts = dict(part.strip().partition("=")[::2] for part in challenge[len("Bearer") :].split(","))
    return answer.status_code, parts.get("error", "").strip('"')


def document(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.content)
    return found


def here_only() -> None:
    """Ends a test that asks for more than the specification does, at another hub."""
    if any(ANOTHER_HUB.format(dialect) in os.environ for dialect in (7, 8)):
        pytest.skip("of sse-fast alone")
