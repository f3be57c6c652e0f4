"""What is remembered of POSTs of one event, and what is not: the next ones of their publishers are neither parsed nor
decided about, see `_native/front/posts`."""

import re
from functools import lru_cache

from sse_fast._native.front.posts import Posts, is_plain
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Answer, Form, Publish
from sse_fast.protocol.policy import Policy
from sse_fast.transports.exchange import IN_PLACE
from sse_fast.transports.head import Known

FOREVER = float("inf")
PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")  # where decoding changes nothing


def posts_of(hub: Hub, policy: Policy) -> Posts | None:
    """None: where the edge is, such requests are not known by their first bytes."""
    if PLAIN_PATH.fullmatch(policy.path) is None:
        return None
    limit = min(hub.max_event_size, policy.max_event_size, IN_PLACE)
    return Posts(f"POST {policy.path}/publish/".encode(), limit, hub.append_one, hub.hand_out)


def learn(posts: Posts, policy: Policy, known: Known, answer: Answer, rendered: bytes) -> None:
    """Remember this request, if all that a later one may differ in is its channel and its body:
    for as long as its grants last, and for the channels that they have. `rendered`: the head of
    its answer, open at its end."""
    head, _, wanted = known
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
        granted, until = wanted.grants.publish, wanted.grants.until
        posts.remember(
            head.data[len(line) :],
            *_around_length(rendered, len(answer.body)),
            allows=None if granted.covers("**") else lambda name: granted.matches(name.decode()),
            until=until if until is not None else FOREVER,
        )


@lru_cache(maxsize=256)  # nearly always the same few
def _around_length(rendered: bytes, length: int) -> tuple[bytes, bytes]:
    name = b"\r\ncontent-length: "
    before, behind = rendered.split(b"%b%d\r\n" % (name, length))
    return before + name, b"\r\n" + behind
