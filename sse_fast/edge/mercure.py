"""Publishing by Mercure: the form of a request -> an update in the log, and its id."""

from sse_fast._native.wire.publication import encode_publication
from sse_fast.access.mercure import refuse_not_granted
from sse_fast.access.namespaces import Namespaces
from sse_fast.errors import SSEFastError
from sse_fast.event_rules import Encoded
from sse_fast.hub.hub import Hub
from sse_fast.protocol.decision import Answer, Headers, Publish, in_order
from sse_fast.protocol.mercure import refused
from sse_fast.protocol.mercure_form import Update, update_of

TEXT = (b"content-type", b"text/plain; charset=utf-8")
NOT_KEPT = (b"cache-control", b"no-store")


class Updates:
    """What is published by Mercure to one hub."""

    def __init__(self, hub: Hub, namespaces: Namespaces) -> None:
        self._hub, self._namespaces = hub, namespaces

    def read(self, wanted: Publish, body: bytes) -> tuple[Update, Encoded]:
        """The update in this body. Raises InvalidEvent, TooMuch, Forbidden or Unauthorized."""
        update = update_of(body)
        refuse_not_granted(wanted.grants, update.topics)
        if self._namespaces.limit_publishers:
            for topic in update.topics:
                self._namespaces.refuse_publisher(wanted.grants, topic)
        return update, encoded(self._hub, update)

    def now(self, wanted: Publish, body: bytes) -> Answer | None:
        """The answer to this, published in this turn of the loop; None: it has to be waited for, and nothing was."""
        try:
            update, event = self.read(wanted, body)
            id = self._hub.append_one(event)
        except SSEFastError as error:
            return self.refused(wanted, error)
        if id is None:
            return None
        self._hub.hand_out()
        return published(update, id, wanted.headers)

    def text(self, wanted: Publish, body: bytes) -> str | None:
        """What is answered to this, published in this turn of the loop; None: it would have to be waited for, and
        nothing was. It is not handed out. Raises what `read` raises, and what the hub does."""
        update, event = self.read(wanted, body)
        id = self._hub.append_one(event)
        return None if id is None else update.id or f"#{id}"

    @staticmethod
    def refused(wanted: Publish, error: SSEFastError) -> Answer:
        assert wanted.identity is not None
        return refused(error, wanted.headers, wanted.identity)


def encoded(hub: Hub, update: Update, event: str | None = None) -> Encoded:
    """As the log takes it. event: of an update of the hub's own. Raises InvalidEvent."""
    topics = update.topics
    return encode_publication(
        topics[0] if len(topics) == 1 else list(topics),
        update.data,
        event=event or update.event,
        retry=update.retry,
        id=update.id,
        fragment=update.id is None,
        private=update.private,
        limit=hub.max_event_size,
        typed=hub.typed,
    )


def published(update: Update, id: str, headers: Headers) -> Answer:
    """`id`: that the log gave."""
    body = (update.id or f"#{id}").encode()
    return Answer(200, in_order(TEXT, NOT_KEPT, (b"content-length", b"%d" % len(body)), *headers), body)
