"""What somebody may: a value, from a token, a publish key, a webhook's answer, or what is granted to everybody."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sse_fast.access.mercure_grants import MercureGrants
from sse_fast.access.patterns import EVERYTHING, NOTHING, Patterns
from sse_fast.errors import Forbidden, Unauthorized
from sse_fast.event_rules import brief


@dataclass(frozen=True, slots=True)
class Grants:
    """subscribe, publish: to which channels. history: whether events may be asked for that were published before, by
    `?history=` or from the earliest; who knows an id may read on from it all the same. operations: whether the server
    may be looked into. user: who it is, as a token's `sub` says. until: when this ends, in seconds since 1970; None:
    never. credential: what its uses are counted under, a short digest or a key's name, never the credential itself;
    None: it is what everybody may. key: the digest of the one, of a file of keys, that it is of.
    claimless: it is of a token that does not say what it grants. alone: it is what everybody may, and no credential
    grants more to subscribe, or to publish, whichever it names. mercure: what it grants by Mercure's claims, if it has
    them."""

    subscribe: Patterns = NOTHING
    publish: Patterns = NOTHING
    history: bool = True
    operations: bool = False
    user: str | None = None
    until: float | None = None
    credential: str | None = None
    claimless: bool = False
    key: bytes | None = field(default=None, compare=False, repr=False)
    alone: frozenset[str] = field(default=frozenset(), compare=False)
    mercure: MercureGrants | None = None

    def beside(self, everybody: "Grants", **others: Any) -> "Grants":
        """What the holder of this may, who may also what everybody may. About history the credential has the word.
        `others`: fields that are to be others."""
        subscribe, publish = self.subscribe | everybody.subscribe, self.publish | everybody.publish
        operations = self.operations or everybody.operations
        return replace(self, subscribe=subscribe, publish=publish, operations=operations, **others)


def refusal(grants: Grants, verb: str, channels: Iterable[str], *, looked_at: bool = False) -> Forbidden | Unauthorized:
    """For who asked for these channels, which they are not granted. `verb`: to subscribe, or to publish. looked_at:
    somebody looked at what they have shown, whatever it was, and did not ask for more."""
    channel = next(iter(channels))
    to = f"{verb} to {brief(channel)}"
    if verb in grants.alone:
        return Forbidden(
            f"nobody may {to} here: no credentials are taken that grant it, and everybody is granted other channels",
            channel,
        )
    if grants.credential is None and not looked_at:
        return Unauthorized(f"to {to} takes a credential that grants it; send it as 'Authorization: Bearer ...'")
    return Forbidden(f"this credential does not grant to {to}{NO_CLAIM if grants.claimless else ''}", channel)


NO_CLAIM = ": the token has no claim 'sse', which is what says what it grants"
NO_GRANTS = Grants()
OPEN = Grants(EVERYTHING, EVERYTHING)
