"""What somebody may: a value, from a token, a publish key, a webhook's answer, or what is granted to everybody."""

from dataclasses import dataclass, replace

from sse_fast.access.patterns import EVERYTHING, NOTHING, Patterns


@dataclass(frozen=True, slots=True)
class Grants:
    """subscribe, publish: to which channels. history: whether events may be asked for that were published before, by
    `?history=` or from the earliest; who knows an id may read on from it all the same. operations: whether the server
    may be looked into. user: who it is, as a token's `sub` says. until: when this ends, in seconds since 1970; None:
    never. credential: what its uses are counted under, a short digest or a key's name, never the credential itself;
    None: it is what everybody may."""

    subscribe: Patterns = NOTHING
    publish: Patterns = NOTHING
    history: bool = True
    operations: bool = False
    user: str | None = None
    until: float | None = None
    credential: str | None = None

    def beside(self, everybody: "Grants") -> "Grants":
        """What the holder of this may, who may also what everybody may. About history the credential has the word."""
        subscribe, publish = self.subscribe | everybody.subscribe, self.publish | everybody.publish
        return replace(self, subscribe=subscribe, publish=publish, operations=self.operations or everybody.operations)


NO_GRANTS = Grants()
OPEN = Grants(EVERYTHING, EVERYTHING)
