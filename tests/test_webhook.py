"""The webhook: what it is asked, what its answer means, and that nobody is let in where there is none."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from origin_server import OriginServer, answer, json
from support import PATIENCE

from sse_fast.access.asking import HookAsked, HookSaid
from sse_fast.access.webhook import BadHookAnswer, key_of, said_of
from sse_fast.edge.asked import AskFailed
from sse_fast.edge.webhook import CAUSES, Webhook, size_of

ASKED = HookAsked("digest", ("user:42:inbox", "news"), ("orders:*",), "42", ((b"cookie", b"session=\xe9"),))
CLIENT = "203.0.113.9"


# ---- what an answer means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", HookSaid(200, None, ())),
        (b'{"user":"7","until":1893456000}', HookSaid(200, None, (), user="7", until=1893456000.0)),
        (b'{"channels":["news","user:42:inbox"],"patterns":["orders:*"]}', HookSaid(200)),
        (b'{"channels":["news"]}', HookSaid(200, ("news",), ())),
        (b'{"channels":["user:42:**","orders:**"]}', HookSaid(200, ("user:42:inbox",), ())),
        (b'{"channels":[]}', HookSaid(200, (), ())),
        (b'{"channels":["never:asked"],"patterns":["**"]}', HookSaid(200, ())),
        (b'{"patterns":["orders:1"]}', HookSaid(200, None, ())),
    ],
)
def test_200_grants_what_was_asked_for_or_narrows_it_and_never_more(body: bytes, said: HookSaid) -> None:
    assert said_of(ASKED, 200, body) == said


def test_of_channels_all_that_were_asked_for_are_granted_unless_it_names_some() -> None:
    assert said_of(ASKED._replace(patterns=()), 200, b"{}") == HookSaid(200)


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>welcome</html>", "not JSON"),
        (200, b"", "not JSON"),
        (200, b"true", "no object"),
        (200, b'{"chanels":["news"]}', "means nothing"),
        (200, b'{"channels":"news"}', "list"),
        (200, b'{"channels":[1]}', "list"),
        (200, b'{"channels":["or*"]}', "a channel that is none"),
        (200, b'{"user":42}', "'user' is a string"),
        (200, b'{"until":"tomorrow"}', "seconds since 1970"),
        (200, b'{"until":true}', "seconds since 1970"),
        (204, b"", "204"),
        (302, b"", "302"),
        (404, b"", "404"),
        (500, b"{}", "500"),
    ],
)
def test_what_is_no_answer_grants_nothing(status: int, body: bytes, why: str) -> None:
    with pytest.raises(BadHookAnswer, match=why):
        said_of(ASKED, status, body)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_passed_on_in_the_hook_s_own_words(status: int) -> None:
    assert said_of(ASKED, status, b'{"detail":"not yours"}') == HookSaid(status, detail="not yours")
    for body in (b"", b"<html>", b'{"detail":"a\\r\\nb"}', b'{"detail":7}', b"[]"):
        said = said_of(ASKED, status, body)
        assert said.status == status
        assert said.detail.startswith("who asks")


def test_answers_are_kept_by_who_asks_and_for_what() -> None:
    same = key_of(ASKED, CLIENT)
    assert key_of(ASKED, "198.51.100.1") == same, "who has a credential has it anywhere"
    others = [
        ASKED._replace(credential="another"),
        ASKED._replace(credential=None),
        ASKED._replace(channels=("news", "user:42:inbox")),
        ASKED._replace(patterns=()),
        ASKED._replace(user=None),
        ASKED._replace(headers=((b"cookie", b"session=1"),)),
    ]
    assert len({same, *(key_of(other, CLIENT) for other in others)}) == 1 + len(others)
    for headers in ((), ((b"cookie", b"consent=1"),)):
        anybody = HookAsked(None, ("news",), headers=headers)
        assert key_of(anybody, CLIENT) != key_of(anybody, "198.51.100.1"), "what anybody may show tells nobody apart"


# ---- asking ----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[OriginServer]:
    async with OriginServer.opened() as origin:
        yield origin


@pytest_asyncio.fixture
async def hook_of(origin: OriginServer) -> AsyncIterator[Callable[..., Webhook]]:
    made: list[Webhook] = []

    def make(**settings: object) -> Webhook:
        made.append(Webhook(origin.url, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for hook in made:
        await hook.close()


Hooks = Callable[..., Webhook]


async def test_it_is_asked_by_a_post_of_json(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: json({"user": "42"})
    hook = hook_of()
    assert await hook.ask(ASKED, CLIENT) == HookSaid(200, None, (), user="42")
    (asked,) = origin.asked
    assert (asked.method, asked.target, asked.headers["content-type"]) == ("POST", "/where", "application/json")
    assert asked.json == {
        "channels": ["user:42:inbox", "news"],
        "patterns": ["orders:*"],
        "user": "42",
        "client": CLIENT,
        "headers": {"cookie": "session=é"},
    }
    assert hook.outcomes == {"granted": 1}


@pytest.mark.parametrize("status", [200, 401, 403])
async def test_an_answer_holds_for_its_max_age(origin: OriginServer, hook_of: Hooks, status: int) -> None:
    clock = Clock()
    hook = hook_of(now=clock)
    origin.answer = lambda asked: json({}, status, cache_control="private, max-age=60")
    for _ in range(3):
        assert (await hook.ask(ASKED, CLIENT)).status == status
    assert (len(origin.asked), hook.kept) == (1, 2)
    clock.now += 60
    await hook.ask(ASKED, CLIENT)
    assert len(origin.asked) == 2


@pytest.mark.parametrize("said", ["", "no-store", "max-age=0", "no-cache, max-age=60", "max-age=soon"])
async def test_one_that_says_no_age_is_asked_for_each_time(origin: OriginServer, hook_of: Hooks, said: str) -> None:
    hook = hook_of()
    origin.answer = lambda asked: json({}, cache_control=said)
    for _ in range(2):
        await hook.ask(ASKED, CLIENT)
    assert len(origin.asked) == 2


async def test_an_answer_is_kept_no_longer_than_it_grants(origin: OriginServer, hook_of: Hooks) -> None:
    clock = Clock()
    hook = hook_of(now=clock)
    origin.answer = lambda asked: json({"until": clock.now + 10}, cache_control="max-age=60")
    await hook.ask(ASKED, CLIENT)
    clock.now += 10
    await hook.ask(ASKED, CLIENT)
    assert len(origin.asked) == 2


async def test_of_kept_answers_the_one_used_longest_ago_goes(origin: OriginServer, hook_of: Hooks) -> None:
    hook = hook_of(kept=2)
    origin.answer = lambda asked: json({}, cache_control="max-age=60")
    for name in ("a", "b", "a", "c", "a", "b"):
        await hook.ask(HookAsked("digest", (name,)), CLIENT)
    assert [asked.json["channels"] for asked in origin.asked] == [["a"], ["b"], ["c"], ["b"]]


async def test_kept_answers_are_bounded_in_their_memory_too(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: json({"channels": asked.json["channels"][1:]}, cache_control="max-age=60")
    hook = hook_of(kept_bytes=100_000)

    def names(number: int) -> tuple[str, ...]:
        return tuple(f"{number}:{at}:{'x' * 100}" for at in range(128))  # 20 KB

    for number in range(60):
        await hook.ask(HookAsked("digest", names(number)), CLIENT)
    origin.asked.clear()
    assert 80_000 < hook._bytes <= 100_000
    for number in range(56, 60):
        await hook.ask(HookAsked("digest", names(number)), CLIENT)
    assert origin.asked == [], "the last ones are there"
    await hook.ask(HookAsked("digest", names(55)), CLIENT)
    assert len(origin.asked) == 1


def test_what_keeping_an_answer_takes_is_no_more_than_is_charged_for_it() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [
            HookSaid(200, tuple(f"{number}:{at}:{'x' * 100}" for at in range(128)), (), user=f"user {number}")
            for number in range(20)
        ]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= sum(map(size_of, kept)) < 1.2 * taken


async def test_all_who_ask_the_same_are_one_question(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: None
    hook = hook_of(seconds=30)
    asking = [asyncio.create_task(hook.ask(ASKED, CLIENT)) for _ in range(100)]
    await origin.asked_times(1)
    asking[0].cancel()  # whoever leaves takes nobody's answer along
    origin.answer = lambda asked: json({})
    origin.released.set()
    done = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1:] == [HookSaid(200, None, ())] * 99
    assert len(origin.asked) == 1


async def test_who_does_not_answer_in_time_grants_nothing(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: None
    hook = hook_of(seconds=0.1)
    with pytest.raises(AskFailed, match="did not answer within"):
        await hook.ask(ASKED, CLIENT)
    origin.answer = lambda asked: json({})
    assert (await hook.ask(ASKED, CLIENT)).status == 200, "and is asked again"
    assert hook.outcomes == {"failed": 1, "granted": 1}


async def test_an_answer_that_drips_is_over_in_time_too(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: b"HTTP/1.1 200 It\r\ncontent-length: 1000\r\n\r\n{"
    with pytest.raises(AskFailed, match="did not answer within"):
        await hook_of(seconds=0.1).ask(ASKED, CLIENT)


async def test_a_redirect_is_not_followed(origin: OriginServer, hook_of: Hooks) -> None:
    async with OriginServer.opened() as elsewhere:
        elsewhere.answer = lambda asked: json({})
        for status in (301, 302, 303, 307, 308):
            origin.answer = lambda asked, status=status: answer(status, location=elsewhere.url)
            with pytest.raises(AskFailed, match="redirects are not followed"):
                await hook_of().ask(ASKED, CLIENT)
        assert elsewhere.asked == []


async def test_one_that_is_down_grants_nothing_and_is_asked_when_it_is_there_again(
    origin: OriginServer, hook_of: Hooks
) -> None:
    origin.answer = lambda asked: json({})
    hook = hook_of()
    origin.stop()
    with pytest.raises(AskFailed, match="cannot be asked"):
        await hook.ask(ASKED, CLIENT)
    await origin.start()
    assert (await hook.ask(ASKED, CLIENT)).status == 200


async def test_of_each_cause_of_its_failures_there_is_a_warning(
    origin: OriginServer, hook_of: Hooks, caplog: pytest.LogCaptureFixture
) -> None:
    hook = hook_of()
    for status in (500, 500, 418, 500, 418, *range(420, 450)):
        origin.answer = lambda asked, status=status: answer(status)
        with pytest.raises(AskFailed):
            await hook.ask(ASKED, CLIENT)
    said = [record.getMessage() for record in caplog.records if "the webhook of --authorize-url" in record.getMessage()]
    assert len(said) == CAUSES, "and not of thousands"
    assert "it answered 500" in said[0]
    assert "it answered 418" in said[1]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (answer(200, b'{"user":"' + b"x" * 70_000 + b'"}'), "more than 65536 bytes"),
        (answer(200, b"\x1f\x8b", content_encoding="gzip"), "encoded"),
        (b"SMTP ready\r\n\r\n", "cannot be asked"),
        (answer(503), "503"),
    ],
    ids=["huge", "gzip", "no HTTP", "503"],
)
async def test_what_cannot_be_read_grants_nothing(origin: OriginServer, hook_of: Hooks, given: bytes, why: str) -> None:
    origin.answer = lambda asked: given
    with pytest.raises(AskFailed, match=why):
        await hook_of().ask(ASKED, CLIENT)


async def test_a_cookie_that_it_sets_is_nobody_s(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: json({}, set_cookie="session=theirs; Path=/")
    hook = hook_of()
    for _ in range(2):
        await hook.ask(ASKED, CLIENT)
    assert all("cookie" not in asked.headers for asked in origin.asked)


async def test_questions_at_once_are_bounded(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: None
    hook = hook_of(seconds=30, connections=2, waiting=4)
    asking = [asyncio.create_task(hook.ask(HookAsked("digest", (str(n),)), CLIENT)) for n in range(4)]
    await origin.asked_times(2)
    with pytest.raises(AskFailed, match="wait for an answer already"):
        await hook.ask(HookAsked("digest", ("one more",)), CLIENT)
    assert len(origin.asked) == 2
    origin.answer = lambda asked: json({})
    origin.released.set()
    assert await asyncio.gather(*asking) == [HookSaid(200)] * 4


async def test_one_address_leaves_connections_to_the_others(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: None if asked.json["client"].startswith("2001:db8:0:7:") else json({})
    hook = hook_of(seconds=30, connections=3, each=2, waiting_each=4)
    asking = [
        asyncio.create_task(hook.ask(HookAsked(None, (f"{n}",)), f"2001:db8:0:7::{n}")) for n in range(4)
    ]  # of one host
    await origin.asked_times(2)
    with pytest.raises(AskFailed, match="4 questions of one address"):
        await hook.ask(HookAsked(None, ("one more",)), "2001:db8:0:7::9")
    async with asyncio.timeout(PATIENCE):
        assert await hook.ask(HookAsked(None, ("news",)), CLIENT) == HookSaid(200)
    origin.answer = lambda asked: json({})
    origin.released.set()
    assert await asyncio.gather(*asking) == [HookSaid(200)] * 4
    assert hook._shares == {}


async def test_a_server_that_ends_waits_for_no_answer(origin: OriginServer, hook_of: Hooks) -> None:
    origin.answer = lambda asked: None
    hook = hook_of(seconds=30)
    asking = asyncio.create_task(hook.ask(ASKED, CLIENT))
    await origin.asked_times(1)
    await hook.close()
    with pytest.raises(AskFailed, match="ends"):
        await asking
