"""Names of a document as names of a language: in its case, no reserved word, each once."""

import re
import unicodedata
from collections.abc import Iterable

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def listed(names: str) -> frozenset[str]:
    """Those that stand there, with spaces between."""
    return frozenset(names.split())


def words(name: str) -> list[str]:
    """Of a name in any case: `item_id`, `itemId` and `item-id` are item and id. What is no ASCII letter or digit, but
    for an accent, stands between words."""
    plain = unicodedata.normalize("NFKD", name)
    return WORDS.findall("".join(letter for letter in plain if not unicodedata.combining(letter)))


def pascal(name: str) -> str:
    """CommentAdded."""
    return _beginning("".join(word[:1].upper() + word[1:] for word in words(name)), "Type")


def camel(name: str) -> str:
    """itemId."""
    first, *others = words(name) or ["value"]
    return _beginning(first.lower() + "".join(word[:1].upper() + word[1:] for word in others), "value")


def snake(name: str) -> str:
    """item_id."""
    return _beginning("_".join(word.lower() for word in words(name)), "value_")


def _beginning(name: str, otherwise: str) -> str:
    """With a letter in front."""
    return name if name[:1].isalpha() else otherwise.removesuffix("_") if not name else otherwise + name


class Names:
    """Those that are taken in one space of names. A reserved one gets `_` behind it, one that is taken a number."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._reserved = frozenset(reserved)
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        name = wanted if wanted not in self._reserved else f"{wanted}_"
        number = 2
        while not self.is_free(name):
            name = f"{wanted}{number}"
            number += 1
        self._taken.add(name)
        return name

    def is_free(self, name: str) -> bool:
        return name not in self._taken and name not in self._reserved
