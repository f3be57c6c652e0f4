"""Unions in JSON Schemas: which are told apart by a tag, and which recursive ones would take a hostile sender's data
to check for ever.

A union is checked branch by branch. Where data could be of two branches that both go on into the union itself, each
level of the data doubles the time. A tag, a field with another constant in each branch, leaves one branch to go on in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sse_fast.errors import InvalidSchema
from sse_fast.schema.shape import REF, Schema, within

Defs = Mapping[str, Schema]
IN_PLACE_ONE = ("else", "if", "not", "then")
IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
OF_OBJECTS = ("additionalProperties", "unevaluatedProperties")
OF_ARRAYS = ("contains", "items", "unevaluatedItems")
ANY, ITEM = "*", "[]"  # any property, and any item


class Tagged(NamedTuple):
    """tag: the field. branches: the definition of each, and its values. null: it may be null, too."""

    tag: str
    branches: list[tuple[str, list[Any]]]
    null: bool


def tags_of(schema: Mapping[str, Any], keyword: str, defs: Defs) -> Tagged | None:
    """How a tag tells the branches of its `anyOf` or `oneOf` apart; None: none does."""
    given = schema.get(keyword)
    if not given:
        return None
    null = {"type": "null"} in given
    names = [_only_ref(each) for each in given if each != {"type": "null"}]
    if len(names) < 2 or None in names:
        return None
    said = schema.get("discriminator")
    tags = [said["propertyName"]] if isinstance(said, dict) and "propertyName" in said else None
    bodies: list[Any] = [defs.get(name or "") for name in names]
    if not all(isinstance(each, dict) and each.get("type") == "object" for each in bodies):
        return None
    for tag in tags or list(bodies[0].get("properties", ())):
        values = [_constants(each, tag, required=tags is None) for each in bodies]
        every = [repr(value) for its in values for value in its]
        if all(values) and len(set(every)) == len(every):
            return Tagged(tag, [(name or "", its) for name, its in zip(names, values, strict=True)], null)
    return None


def _only_ref(schema: Any) -> str | None:
    if isinstance(schema, dict) and schema.keys() == {"$ref"}:
        return str(schema["$ref"])[len(REF) :]
    return None


def _constants(schema: Mapping[str, Any], tag: str, *, required: bool) -> list[Any]:
    """What the tag can be; empty: anything, or it may be left out."""
    if required and tag not in schema.get("required", ()):
        return []
    of_tag = schema.get("properties", {}).get(tag)
    if not isinstance(of_tag, dict):
        return []
    values = [of_tag["const"]] if "const" in of_tag else of_tag.get("enum", [])
    return values if all(isinstance(value, str | int) for value in values) else []


class References:
    """Which definitions come to which."""

    def __init__(self, defs: Defs) -> None:
        self.defs = defs
        self._of: dict[str, frozenset[str]] = {}

    def of(self, schema: Any) -> frozenset[str]:
        """The definitions that a schema comes to."""
        return frozenset().union(*({name} | self._of_definition(name) for name in refs(schema)))

    def _of_definition(self, name: str) -> frozenset[str]:
        if name not in self._of:
            found: set[str] = set()
            ahead = [name]
            while ahead:
                new = set(refs(self.defs[ahead.pop()])) - found
                found |= new
                ahead += new
            self._of[name] = frozenset(found)
        return self._of[name]

    @property
    def recursive(self) -> list[str]:
        """Those that come to themselves."""
        return [name for name in self.defs if name in self._of_definition(name)]


def refs(schema: Any) -> Iterator[str]:
    """The definitions that a schema refers to itself."""
    for _, inner in within(schema):
        if isinstance(inner, dict) and "$ref" in inner:
            yield inner["$ref"][len(REF) :]


def refuse_slow(where: str, references: References) -> None:
    """Raise InvalidSchema where one is recursive in a way that the size of the data does not bound the time of."""
    for home in references.recursive:
        for _, schema in within(references.defs[home]):
            if home not in references.of(schema):
                continue
            ways = _ways(where, home, schema, references, ())
            anywhere = ways.pop(ANY, 0)
            for field, count in [*ways.items(), (ANY, 0)]:
                if count + (anywhere if field != ITEM else 0) > 1:
                    raise InvalidSchema(
                        f"{where}: {home} is recursive, and at each of its levels data could be checked in several "
                        "ways, which takes time that doubles with each level; give the classes of the union a field "
                        'that tells them apart, as `kind: Literal["a"]` or the tag=True of msgspec'
                    )


def _ways(where: str, home: str, schema: Any, references: References, through: tuple[str, ...]) -> Counter[str]:
    """By field, how often what stands in it is checked by schemas that come back to `home`."""
    ways: Counter[str] = Counter()
    if not isinstance(schema, dict):
        return ways
    defs = references.defs
    if "$ref" in schema:
        name = schema["$ref"][len(REF) :]
        if name in through:
            raise InvalidSchema(f"{where}: {name} refers to itself, and says nothing in between")
        ways += _ways(where, home, defs[name], references, (*through, name))
    for keyword in IN_PLACE_ONE:
        ways += _ways(where, home, schema.get(keyword), references, through)
    for keyword in IN_PLACE_LISTS:
        tagged = keyword != "allOf" and tags_of(schema, keyword, defs) is not None
        together: Counter[str] = Counter()
        for one in schema.get(keyword, ()):
            its = _ways(where, home, one, references, through)
            together = together | its if tagged else together + its
        ways += together
    for one in schema.get("dependentSchemas", {}).values():
        ways += _ways(where, home, one, references, through)
    for field, one in schema.get("properties", {}).items():
        ways[f".{field}"] += home in references.of(one)
    for one in schema.get("patternProperties", {}).values():
        ways[ANY] += home in references.of(one)
    for keyword in OF_OBJECTS:
        ways[ANY] += home in references.of(schema.get(keyword))
    for one in [*schema.get("prefixItems", ()), *(schema.get(keyword) for keyword in OF_ARRAYS)]:
        ways[ITEM] += home in references.of(one)
    return ways
