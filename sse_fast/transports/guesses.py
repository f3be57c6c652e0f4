"""Who sends wrong publish keys, or tokens that are none, is slowed down: guessing is to get nobody anywhere, and to
cost the others nothing.

An address may send so many wrong keys; what it sends beyond those is answered 429, right or wrong, so that who guesses
does not even learn which. That holds no connection and waits for nothing: it is an answer like any other. Who came with
a right one from there before goes on; so do programs of this machine, and who comes by a Unix socket, for behind a
proxy that is not trusted the whole world has one address. A token that was verified is no guess.

To verify a token is what costs, so of an address that has sent too many that were none no further one is verified for a
moment (`found_of`): who has one that was verified before does not notice.

What it keeps: of addresses what the limiters do; of those who came with a right key so many, the last.
"""

import math
from collections import OrderedDict

from sse_fast.access.addresses import one_client
from sse_fast.access.asking import NOTHING_FOUND, Found, TokenAsked
from sse_fast.access.local import UNIX, is_loopback_address
from sse_fast.access.publishers import of_a_key
from sse_fast.access.rates import Limiter, Rate
from sse_fast.errors import RateLimited
from sse_fast.protocol.decision import Answer, Ask, Decision, Headers
from sse_fast.protocol.problem import problem_of

WRONG_KEYS = Rate(1, 2, 20)
"""That an address may send: one every two seconds, 20 at once."""

BAD_TOKENS = Rate(10, 1, 100)
"""That are verified for an address: a hundredth of a processor's time, or two for the longest."""

COUNTED_ADDRESSES = 4096
REMEMBERED = 1024  # holders and where they came from


class Guesses:
    """`limiter`: of wrong keys, by address. `of_tokens`: of bad tokens; None: none are taken."""

    def __init__(self, limiter: Limiter, of_tokens: Limiter | None = None) -> None:
        self._limiter, self._of_tokens = limiter, of_tokens
        self._right: OrderedDict[tuple[str, str], None] = OrderedDict()

    def found_of(self, client: str) -> Found:
        """By which a request from there is decided about."""
        if self._of_tokens is None or _is_local(client):
            return NOTHING_FOUND
        wait = left_of(self._of_tokens, client)
        return Found(wait=wait) if wait else NOTHING_FOUND

    def decided(self, decision: Decision, client: str) -> Decision:
        """What becomes of this decision for who comes from there."""
        if isinstance(decision, Answer):
            if decision.refused == "wrong_key" and (wait := self._limiter.spend(_key(client))):
                return _too_often(wait, decision.headers)
            if decision.bad_token and self._of_tokens is not None:
                self._of_tokens.spend(_key(client))
        elif (credential := decision.grants.credential) is not None and of_a_key(decision.grants):
            who = (one_client(client), credential)
            if who in self._right:
                self._right.move_to_end(who)
            elif not _is_local(client) and (wait := left_of(self._limiter, client)):
                return _too_often(wait, decision.headers)
            else:
                self._right[who] = None
                if len(self._right) > REMEMBERED:
                    self._right.popitem(last=False)
        return decision


def left_of(limiter: Limiter, client: str) -> float:
    """Seconds until this address may do it again; 0.0: it may."""
    wait = limiter.spend(_key(client))
    if not wait:
        limiter.give_back(_key(client))
    return wait


def not_looked_at(asked: TokenAsked) -> RateLimited:
    """What is said of a token that is not verified now."""
    wait = asked.wait
    return RateLimited(f"too many bad tokens came from your address; come back in {math.ceil(wait)} s", wait)


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
