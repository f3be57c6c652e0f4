"""What is remembered of POSTs of one event, and what is not: the next ones of their publishers are neither parsed nor
decided about, see `_native/front/posts`."""

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from sse_fast._native.front.posts import Posts, is_plain
from sse_fast.access.mercure import PATH as MERCURE
from sse_fast.access.rates import Rates
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Answer, Form, Publish
from sse_fast.protocol.policy import Policy
from sse_fast.transports.exchange import IN_PLACE
from sse_fast.transports.head import Head, Known
from sse_fast.transports.remembered import without_secrets

FOREVER = float("inf")
PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")  # where decoding changes nothing


class Publisher(NamedTuple):
    """Who sends a known request, as far as its header block says. They are counted as where it is decided."""

    forwarded_for: bytes | None
    credential: str | None


def posts_of(hub: Hub, policy: Policy, rates: Rates | None = None) -> Posts | None:
    """None: where the edge is, such requests are not known by their first bytes."""
    if PLAIN_PATH.fullmatch(policy.path) is None:
        return None
    limit = min(hub.max_event_size, policy.max_event_size, IN_PLACE)
    in_place = hub.backplane.in_place
    hand_out = hub.hand_out if in_place else hub.backplane.hand_over
    posts = Posts(f"POST {policy.path}/publish/".encode(), limit, hub.append_one, hand_out)
    posts.later = None if in_place else hub.append_later
    posts.typed = hub.typed
    if policy.mercure is not None and in_place:
        posts.form_line = b"POST %b HTTP/1.1\r\n" % MERCURE.encode()
        posts.most_form = 3 * limit
    if rates is not None and rates.of_publishing:
        posts.admits, posts.undo = limited(policy, rates)
    return posts


def limited(policy: Policy, rates: Rates) -> tuple[Callable[..., bool], Callable[..., None]]:
    """What counts single events, and what takes that back."""

    def client_of(address: str, publisher: Publisher) -> str:
        proxies = policy.proxies
        return address if proxies is None else proxies.client_of(address, publisher.forwarded_for)

    def admits(address: str, publisher: Publisher, channel: bytes) -> bool:
        return rates.publishes_one(client_of(address, publisher), publisher.credential, channel)

    def undo(address: str, publisher: Publisher, channel: bytes) -> None:
        rates.published_nothing(client_of(address, publisher), publisher.credential, 1, ((channel, 1),))

    return admits, undo


FormReader = Callable[[Publish, bytes], str | None]
"""Publishes what is in the body of such a request: see `Posts.remember_form`."""


def learn(
    posts: Posts, policy: Policy, known: Known, answer: Answer, rendered: bytes, read: FormReader | None = None
) -> None:
    """Remember this request, if all that a later one may differ in is its channel and its body:
    for as long as its grants last, and for the channels that they have. `rendered`: the head of
    its answer, open at its end. `read`: of forms."""
    head, request, wanted = known
    if isinstance(wanted, Publish) and wanted.form is Form.UPDATE:
        if read is not None:
            _learn_form(posts, known.head, wanted, answer, rendered, read)
        return
    start = f"{policy.path}/publish/".encode()
    if not (
        isinstance(wanted, Publish)
        and wanted.form is Form.DATA
        and (wanted.event, wanted.retry, wanted.key) == (None, None, None)
        and head.keep_alive
        and not head.chunked
        and not head.expects
        and head.target.startswith(start)
        and is_plain(head.target[len(start) :])
        and answer.status == 200
        and answer.whole
        and answer.body.startswith(b'{"id":"')
    ):
        return
    line = b"POST %b HTTP/1.1\r\n" % head.target
    if head.data.startswith(line):
        grants, namespaces, until = wanted.grants, policy.namespaces, wanted.grants.until

        def allows(name: bytes) -> bool:
            channel = name.decode()
            return grants.publish.matches(channel) and namespaces.lets_publish(grants, channel)

        posts.remember(
            head.data[len(line) :],
            *_around_length(rendered, len(answer.body)),
            allows=allows if namespaces.limit_publishers or not grants.publish.covers("**") else None,
            until=until if until is not None else FOREVER,
            request=without_secrets(known),
            publisher=posts.admits and Publisher(request.headers.get(b"x-forwarded-for"), wanted.grants.credential),
        )


def _learn_form(posts: Posts, head: Head, wanted: Publish, answer: Answer, rendered: bytes, read: FormReader) -> None:
    """The same of a form, whose publisher is the same by the same block."""
    plain = head.keep_alive and not head.chunked and not head.expects and answer.status == 200 and answer.whole
    if plain and wanted.key is None and posts.admits is None and head.data.startswith(posts.form_line or b"\n"):
        until = wanted.grants.until
        posts.remember_form(
            head.data[len(posts.form_line) :],
            *_around_length(rendered, len(answer.body)),
            form=partial(read, wanted),
            until=until if until is not None else FOREVER,
        )


@lru_cache(maxsize=256)  # nearly always the same few
def _around_length(rendered: bytes, length: int) -> tuple[bytes, bytes]:
    name = b"\r\ncontent-length: "
    before, behind = rendered.split(b"%b%d\r\n" % (name, length))
    return before + name, b"\r\n" + behind
