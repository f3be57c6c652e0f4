"""Who sends wrong publish keys is slowed down: guessing is to get nobody anywhere, and to cost the others nothing.

An address may send so many; what it sends beyond those is answered 429, right or wrong, so that who guesses does not
even learn which. That holds no connection and waits for nothing: it is an answer like any other. Who came with a
right one from there before goes on; so do programs of this machine, and who comes by a Unix socket, for behind a proxy
that is not trusted the whole world has one address. A token that was verified is no guess.

What it keeps: of addresses what the limiter does; of those who came with a right one so many, the last.
"""

import math
from collections import OrderedDict

from sse_fast.access.addresses import one_client
from sse_fast.access.local import UNIX, is_loopback_address
from sse_fast.access.publishers import of_a_key
from sse_fast.access.rates import Limiter, Rate
from sse_fast.errors import RateLimited
from sse_fast.protocol.decision import Answer, Ask, Decision, Headers
from sse_fast.protocol.problem import problem_of

WRONG_KEYS = Rate(1, 2, 20)
"""That an address may send: one every two seconds, 20 at once."""

COUNTED_ADDRESSES = 4096
REMEMBERED = 1024  # holders and where they came from


class Guesses:
    """`limiter`: of wrong keys, by address."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def decided(self, decision: Decision, client: str) -> Decision:
        """What becomes of this decision for who comes from there."""
        if isinstance(decision, Answer):
            if decision.refused == "wrong_key" and (wait := self._limiter.spend(_key(client))):
                return _too_often(wait, decision.headers)
        elif (credential := decision.grants.credential) is not None and of_a_key(decision.grants):
            who = (one_client(client), credential)
            if who in self._right:
                self._right.move_to_end(who)
            elif not _is_local(client) and (wait := self._left_of(client)):
                return _too_often(wait, decision.headers)
            else:
                self._right[who] = None
                if len(self._right) > REMEMBERED:
                    self._right.popitem(last=False)
        return decision

    def _left_of(self, client: str) -> float:
        """Seconds until this address may send a key again; 0.0: it may."""
        wait = self._limiter.spend(_key(client))
        if not wait:
            self._limiter.give_back(_key(client))
        return wait


def concerns(decision: Decision | Ask) -> bool:
    """Whether something may become of it."""
    return isinstance(decision, Answer) or (not isinstance(decision, Ask) and of_a_key(decision.grants))


def _too_often(wait: float, headers: Headers) -> Answer:
    sentence = f"too many wrong publish keys came from your address; come back in {math.ceil(wait)} s"
    readable = tuple(header for header in headers if _says_who_may_read(header[0]))
    return problem_of(RateLimited(sentence, wait), readable)._replace(refused="wrong_key")


def _says_who_may_read(name: bytes) -> bool:
    return name.startswith(b"access-control-") or name == b"vary"


def _key(client: str) -> bytes:
    return one_client(client).encode()


def _is_local(client: str) -> bool:
    return client == UNIX or is_loopback_address(client)
