"""What all transports have in common: whom they admit, how a stream begins, and what is said to who is turned away."""

import logging
import random
from typing import TYPE_CHECKING

from sse_fast._native.fanout.sinks import Sink
from sse_fast._native.wire.control import closing, connected, preamble
from sse_fast.access.asking import NOTHING_FOUND, Found
from sse_fast.access.limits import Admission, Counted, address_of_counted
from sse_fast.access.patterns import Patterns
from sse_fast.access.rates import Rates
from sse_fast.ends import BEHIND, ENDS, OVERLOADED, RATE_LIMITED
from sse_fast.errors import Behind, EndReason, HubClosed, Overloaded, RateLimited, Unsupported
from sse_fast.event_rules import PrivateGrants
from sse_fast.hub.hub import Hub
from sse_fast.hub.presence import Presence
from sse_fast.hub.recall import Recalled
from sse_fast.hub.subscription import Subscription
from sse_fast.protocol.decision import Answer, Ask, Headers, Subscribe
from sse_fast.protocol.problem import problem, problem_of, reason_of
from sse_fast.transports.access_log import AccessLog, Logged
from sse_fast.transports.guesses import Guesses
from sse_fast.transports.keyed import Keyed, KeyedStreams
from sse_fast.transports.life import OFFERS, Life, Lives, Transport
from sse_fast.transports.listening import Listeners, Listening, Owed, Part
from sse_fast.transports.refusals import Refusals
from sse_fast.transports.watching import STATS, Watching

if TYPE_CHECKING:  # of the server that needs Linux
    from sse_fast.transports.kernel import ServerConnections

logger = logging.getLogger("sse_fast.transports")

SOON = 20  # milliseconds, for who is to come back for more
MOST_OF_PARTS = 64 * 1024 * 1024  # bytes of one worker, on their way to who comes back for more
PART = "$part"  # a channel in which nothing is published
LONGEST_WAIT = 10 * 60 * 1000  # milliseconds that an EventSource is told to stay away at most
ADDRESS_LENGTH = 64  # characters; a trusted proxy passes on whatever a client calls its address


class Streams:
    """The streams of a hub, by whichever transport: who is admitted, how a stream begins, who is turned away."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        *,
        retry: int,
        max_subscriptions: int | None = None,
        rates: Rates | None = None,
        guesses: Guesses | None = None,
        access_log: AccessLog | None = None,
        max_patterns: int | None = None,
    ) -> None:
        self.hub = hub
        self._admission = admission
        self._retry = retry
        self._max_subscriptions = max_subscriptions
        self.rates = rates
        self.presence: Presence | None = None
        """That keeps who is there, if one does."""
        self._max_patterns = max_patterns
        self.transports = {transport: Lives() for transport in Transport}
        self.connections: ServerConnections | None = None
        self.refusals = Refusals()
        self.guesses = guesses
        self.access_log = access_log
        self.keyed = KeyedStreams(hub)
        self.listeners: Listeners | None = None
        """Of Mercure, if it is told who listens."""
        self.watching = Watching()
        self.parts = 0
        """Bytes of parts that are on their way."""

    def found_of(self, client: str) -> Found:
        """What is known of who comes from there, before it is decided what they may."""
        return NOTHING_FOUND if self.guesses is None else self.guesses.found_of(client)

    def counted(self, address: str, wanted: Subscribe) -> str | Counted:
        """What `enter` and `left` are to be given for a stream of a client with this address."""
        channels = (*wanted.channels, *wanted.patterns) if wanted.patterns else wanted.channels
        counted = self._admission.counted(address, channels, wanted.grants.credential)
        if self.presence is not None and (user := wanted.grants.user):
            shown_in = self.presence.shown_in(wanted.channels, user)
            if shown_in:
                return Counted(address, channels, wanted.grants.credential, user, shown_in)
        return counted

    def enter(self, counted: str | Counted, transport: Transport, wanted: Subscribe, *, unread: bool = False) -> Life:
        """Let a stream in that arrived there, and count it: it opens, and `left` is owed. Raises Overloaded, HubClosed,
        or Unsupported if the transport has not got what the stream needs: it is still to be turned away. unread: what
        it begins with is to be read first, and then to be counted by `was_read`."""
        if wanted.needs and not wanted.needs <= OFFERS[transport]:
            missing = " and no ".join(sorted(wanted.needs - OFFERS[transport]))
            raise Unsupported(f"a stream by the {transport} transport has no {missing}; answer this request by ASGI")
        if self.hub.draining:
            raise HubClosed("the server is shutting down; come back in a moment")
        most = self._max_subscriptions
        if (
            most is not None
            and self.hub.fanout.listened + len(wanted.channels) + len(wanted.patterns) + len(wanted.matchers) > most
        ):
            self._admission.refused["max_subscriptions"] += 1
            raise Overloaded(
                f"all {most} channels that the streams of one worker may listen to are in use", "max_subscriptions"
            )
        if wanted.patterns and self._max_patterns is not None:
            self._refuse_too_many(wanted.patterns, self._max_patterns)
        if self.rates is None:
            self._admission.enter(counted)
        else:
            replayed = 0 if unread else self._replayed(self.rates, wanted, None)
            client = address_of_counted(counted), wanted.grants.credential, replayed
            self.rates.opening(*client, asked=wanted.asked)
            try:
                self._admission.enter(counted)
            except BaseException:
                self.rates.not_opened(*client)
                raise
        if self.presence is not None and isinstance(counted, Counted) and counted.shown_in:
            self.presence.enter(counted.shown_in, counted.user)
        return self.transports[transport].move(Life.ARRIVED, "admit")

    def was_read(self, counted: str | Counted, wanted: Subscribe, recalled: Recalled | None) -> None:
        """What a stream that was let in begins with. Raises Overloaded: it is to be turned away, and `left` is owed."""
        if recalled is not None and recalled.more and self.parts and self.parts + recalled.size > MOST_OF_PARTS:
            raise Overloaded("what is sent now to those who were away for long is as much as one worker may hold")
        if self.rates is not None:
            self.rates.replaying(address_of_counted(counted), self._replayed(self.rates, wanted, recalled))

    def _refuse_too_many(self, patterns: tuple[str, ...], most: int) -> None:
        listened = self.hub.fanout.index.patterns
        if listened.count + sum(pattern.encode() not in listened for pattern in patterns) > most:
            self._admission.refused["max_patterns"] += 1
            raise Overloaded(
                f"all {most} patterns that the streams of one worker may listen to are in use", "max_patterns"
            )

    def _replayed(self, rates: Rates, wanted: Subscribe, recalled: Recalled | None) -> int:
        """Bytes, where they count."""
        if rates.of_replays and recalled is not None:
            if recalled.more:
                return recalled.size
            return recalled.size + self.hub.to_replay(wanted.channels, str(recalled.until), 0, wanted.patterns)
        if rates.of_replays and (wanted.history or wanted.last_event_id is not None):
            asked = wanted.channels, wanted.last_event_id, wanted.history, wanted.patterns
            return self.hub.to_replay(*asked, wanted.grants.history, matchers=wanted.matchers)
        return 0

    def recalls(self, wanted: Subscribe) -> bool:
        """Whether it has to be asked for what the log here no longer has: see `recall`."""
        return (
            wanted.last_event_id is not None
            and wanted.from_outside is None
            and wanted.grants.history
            and self.hub.recalls(wanted.channels, wanted.patterns, wanted.last_event_id, matchers=wanted.matchers)
        )

    async def recall(self, wanted: Subscribe) -> Recalled | None:
        """What such a stream is sent before it begins in the log; None: it begins with a gap."""
        assert wanted.last_event_id is not None
        listens = Patterns.of(wanted.patterns)
        found = await self.hub.recall(
            wanted.channels, wanted.patterns, wanted.last_event_id, lambda name: listens.matches(name.decode())
        )
        return found if wanted.mercure is None else None  # its stream has no opening: its head tells what is gone

    def attach(
        self, wanted: Subscribe, sink: Sink, address: str, *, since: int | None = None, recalled: Recalled | None = None
    ) -> Subscription:
        """A stream that was let in, in the hub. Where there is more than it is sent at once, `recalled` is all that it
        gets: it is a part, and to be ended when that is out. Raises HubClosed."""
        if recalled is not None and recalled.more:
            grants = wanted.grants
            subscription = self.hub.attach((PART,), sink, until=grants.until, user=grants.user, address=address)
            subscription.resumed = "complete"
            return subscription
        return self.hub.attach(
            wanted.channels,
            sink,
            patterns=wanted.patterns,
            last_event_id=wanted.last_event_id,
            history=wanted.history,
            envelope=wanted.envelope,
            since=since,
            until=wanted.grants.until,
            user=wanted.grants.user,
            kept=wanted.grants.history,
            address=address,
            recalled=recalled,
            matchers=wanted.matchers,
            private=private_grants(wanted) if wanted.matchers else None,
            quiet=wanted.mercure is not None,
        )

    def part(self, wanted: Subscribe, recalled: Recalled) -> bytes:
        """All that a part is sent: as much as is sent at once, and that its client is to come back."""
        said = connected("complete", wanted.last_event_id, wanted.envelope, wanted.left_out)
        last = closing("more", jittered(SOON))[:-1] + b"id: %b\n\n" % str(recalled.until).encode()
        return b"".join((preamble(jittered(self._retry)), said, recalled.frames(wanted.envelope), last))

    def opened(
        self,
        counted: str | Counted,
        transport: Transport,
        wanted: Subscribe,
        subscription: Subscription,
        recalled: Recalled | None = None,
    ) -> Owed:
        """A stream is there. What `left` is to be given from here on."""
        if STATS in wanted.channels:
            self.watching.opened(subscription.subscriber)
        log = self.access_log
        logged = counted if log is None else log.opened(counted, transport, wanted, subscription)
        keyed = self.keyed.opened(logged, wanted, subscription.subscriber)
        if recalled is not None and recalled.more:
            self.parts += recalled.size
            return Part(keyed, recalled.size)
        if self.listeners is None or wanted.mercure is None:
            return keyed
        return self.listeners.opened(keyed, wanted)

    def left(
        self,
        counted: Owed,
        reason: EndReason,
        transport: Transport,
        life: Life,
    ) -> Life:
        """Count a stream out."""
        if isinstance(counted, Part):
            self.parts -= counted.size
            counted = counted.counted
        if isinstance(counted, Listening):
            assert self.listeners is not None  # that has counted it
            counted = self.listeners.left(counted)
        if isinstance(counted, Keyed):
            counted = self.keyed.left(counted)
        if isinstance(counted, Logged):
            if self.access_log is not None:
                self.access_log.ended(counted, reason)
            counted = counted.counted
        self._admission.leave(counted)
        if self.presence is not None and isinstance(counted, Counted) and counted.shown_in:
            self.presence.leave(counted.shown_in, counted.user)
        life = self.transports[transport].end(life, reason)
        level = ENDS[reason].level
        if logger.isEnabledFor(level):
            extra = {"reason": reason.value, "client": address_of_counted(counted), "transport": transport}
            logger.log(level, "stream ended: %s", reason.value, extra=extra)
        return life

    def all_left(self) -> None:
        """Count out the streams that are still open: the process ends, and they with it."""
        if self.access_log is not None:
            self.access_log.all_ended(EndReason.SHUTDOWN)
        for lives in self.transports.values():
            for _ in range(lives.connections):
                lives.end(Life.STREAMING, EndReason.SHUTDOWN)

    def preamble(self, subscription: Subscription, wanted: Subscribe, retry: int | None = None) -> bytes:
        """The first bytes of a stream."""
        told = preamble(jittered(self._retry if retry is None else retry))
        return told if wanted.mercure is not None else told + subscription.opening(wanted.left_out)

    @staticmethod
    def opening_headers(subscription: Subscription, wanted: Subscribe) -> Headers:
        """Of a stream that begins so."""
        if wanted.mercure is None or not wanted.mercure.told_by:
            return wanted.opening_headers
        before = subscription.preceding.encode()
        return (*wanted.opening_headers, *((name, before) for name in wanted.mercure.told_by))

    def come_back_in(self, error: Overloaded | HubClosed) -> int:
        """Milliseconds, for a client that is turned away. Not before it may, where that is known."""
        if isinstance(error, RateLimited):
            return min(round(1000 * error.seconds * random.uniform(1, 1.5)) + jittered(self._retry), LONGEST_WAIT)
        return jittered(max(10 * self._retry, 10_000) if isinstance(error, Overloaded) else self._retry)

    def no_room(self, crowded: bool = False) -> None:
        """Count a client for whose connection no descriptor is left, or whose address has too many."""
        self._admission.refused["max_connections_per_ip" if crowded else "descriptors"] += 1

    def undecided(self, error: Overloaded, ask: Ask) -> Answer:
        """To a request of which something would have to be found out, and can't be: nobody is let in by it."""
        return self.turn_away(error, ask) if ask.stream else problem_of(error, ask.readable)

    def turn_away(self, error: Overloaded | HubClosed | Unsupported, wanted: Subscribe | Ask) -> Answer:
        """501 for what coming back would not help; 503, or 429, for a caller that says it reads JSON. A browser's
        EventSource would take any error for the end and never come back, so it gets a stream that tells it when to;
        broken off, as some take a clean end for final."""
        if isinstance(error, Unsupported):
            return problem_of(error, wanted.readable)
        wait = self.come_back_in(error)
        if wanted.reads_json:
            if isinstance(error, RateLimited):
                return problem_of(error, wanted.readable)
            again = (b"retry-after", b"%d" % -(-wait // 1000))
            return problem(503, str(error), (again, *wanted.readable), reason_of(error))
        end = BEHIND if isinstance(error, Behind) else ENDS[EndReason.SHUTDOWN]
        if isinstance(error, Overloaded):
            end = RATE_LIMITED if isinstance(error, RateLimited) else OVERLOADED
        told = preamble(wait)
        if isinstance(wanted, Ask) or wanted.mercure is None:
            told += closing(end.told)
        return Answer(200, wanted.headers, told, whole=not end.comes_back, refused=reason_of(error))


def private_grants(wanted: Subscribe) -> PrivateGrants:
    return PrivateGrants(wanted.private.listed, wanted.private.everything)


def jittered(milliseconds: int) -> int:
    """±30 %, so that those who were cut together do not come back together."""
    return round(milliseconds * (0.7 + 0.6 * random.random()))
