"""Deciding by a webhook: it is asked about what nothing else grants, and grants nothing but what it was asked about."""

from typing import Any

import orjson
import pytest

from sse_fast.access.access import Access
from sse_fast.access.asking import Found, HookAsked, HookSaid
from sse_fast.access.grants import Grants
from sse_fast.access.patterns import Patterns
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Ask, Decision, Publish, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import READ, Request

NOW = 1_900_000_000.0
TOLD = (b"cookie", b"x-tenant")
POLICY = Policy(
    access=Access(Grants(Patterns.of(["public:**"])), hook=TOLD), read=READ.union(TOLD), now=lambda: NOW, max_channels=8
)


def asked(target: str, said: HookSaid | None = None, method: str = "GET", **headers: str) -> Decision | Ask:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request.from_head(method, target.encode(), raw, "1.1", POLICY.read)
    return decide(request, POLICY, Found(hook=said))


def question(decision: Decision | Ask) -> HookAsked:
    assert isinstance(decision, Ask)
    assert isinstance(decision.what, HookAsked)
    return decision.what


def problem(decision: Decision | Ask) -> tuple[int, str]:
    assert isinstance(decision, Answer)
    return decision.status, orjson.loads(decision.body)["detail"]


def stream(decision: Decision | Ask) -> Subscribe:
    assert isinstance(decision, Subscribe)
    return decision


def test_it_is_asked_about_what_nothing_else_grants_and_told_the_chosen_headers() -> None:
    target = "/sse?channel=public:a&channel=private:b&channel=private:c&history=3"
    found = question(asked(target, cookie="s=1", x_tenant="7", origin="http://x", authorization="Basic eDp5"))
    assert (found.channels, found.patterns, found.user) == (("private:b", "private:c"), (), None)
    assert found.headers == ((b"cookie", b"s=1"), (b"x-tenant", b"7"))
    assert found.credential is None, "nobody here knows whether a header is one"
    assert question(asked(target, method="HEAD", cookie="s=1", x_tenant="7")) == found


@pytest.mark.parametrize(("method", "target"), [("GET", "/sse/public:a"), ("GET", "/stats"), ("GET", "/sse/$stats")])
def test_it_is_not_asked_about_what_everybody_may_nor_about_what_is_the_server_s(method: str, target: str) -> None:
    assert not isinstance(asked(target, method=method), Ask)


def test_nobody_is_asked_about_publishing() -> None:
    assert problem(asked("/publish/private:b", method="POST"))[0] == 401
    assert not isinstance(asked("/publish/private:b", HookSaid(200), method="POST"), Publish)


def test_what_it_grants_opens_for_whom_and_until_when_it_says() -> None:
    said = HookSaid(200, user="42", until=NOW + 60)
    opened = stream(asked("/sse?channel=public:a&channel=private:b", said, cookie="s=1"))
    assert (opened.channels, opened.left_out) == (("public:a", "private:b"), ())
    assert (opened.grants.user, opened.grants.until) == ("42", NOW + 60)


def test_who_shows_no_token_counts_as_the_user_whom_it_names_and_as_nobody_where_it_names_none() -> None:
    def counted_as(said: HookSaid, cookie: str) -> str | None:
        return stream(asked("/sse/private:b", said, cookie=cookie)).grants.credential

    assert counted_as(HookSaid(200), "consent=1") is None
    one = counted_as(HookSaid(200, user="42"), "s=1")
    assert one is not None
    assert "42" not in one
    assert one == counted_as(HookSaid(200, user="42"), "s=2")
    assert one != counted_as(HookSaid(200, user="43"), "s=1")


def test_where_it_narrows_the_stream_is_of_the_rest_and_says_so() -> None:
    target = "/sse?channel=public:a&channel=private:b&channel=private:c"
    opened = stream(asked(target, HookSaid(200, ("private:c",))))
    assert (opened.channels, opened.left_out) == (("public:a", "private:c"), ("private:b",))
    assert problem(asked("/sse/private:b", HookSaid(200, ()), cookie="s=1"))[0] == 403


def test_it_grants_nothing_that_it_was_not_asked_about() -> None:
    opened = stream(asked("/sse?channel=private:b&channel=private:c", HookSaid(200, ("private:b", "other"))))
    assert (opened.channels, opened.left_out) == (("private:b",), ("private:c",))


@pytest.mark.parametrize("status", [401, 403])
def test_its_refusal_is_passed_on(status: int) -> None:
    decision = asked("/sse/private:b", HookSaid(status, detail="the trial is over"))
    assert problem(decision) == (status, "the trial is over")


def test_what_is_over_already_lets_nobody_in() -> None:
    assert problem(asked("/sse/private:b", HookSaid(200, until=NOW)))[0] == 401


def test_a_token_that_ends_sooner_has_the_word() -> None:
    class Tokens:
        everybody = Grants()

        def use(self, *_: Any) -> None: ...
        def grants_of(self, text: str, now: float, asked: bool = False) -> Grants:
            return Grants(Patterns.of(["mine:*"]), user="7", until=NOW + 10, credential="digest")

    policy = Policy(access=Access(Grants(), tokens=Tokens(), hook=TOLD), read=READ.union(TOLD), now=lambda: NOW)
    headers = [(b"authorization", b"Bearer token")]
    request = Request.from_head("GET", b"/sse?channel=mine:a&channel=private:b", headers, "1.1", policy.read)
    found = question(decide(request, policy))
    assert (found.channels, found.user, found.credential) == (("private:b",), "7", "digest")
    opened = stream(decide(request, policy, Found(hook=HookSaid(200, until=NOW + 60))))
    assert (opened.grants.user, opened.grants.until, opened.channels) == ("7", NOW + 10, ("mine:a", "private:b"))
