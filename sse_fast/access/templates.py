"""URI templates (RFC 6570) turned round: whether a name may be an expansion of one, whatever its variables are.

A template becomes a regular expression. RE2 matches it, in a time that is linear in the name, whatever the template is.
"""

import re
from typing import Any

import re2

MOST_MEMORY = 512 * 1024  # bytes that RE2 may take for one
MOST_VARIABLES = 64  # of a template

UNRESERVED = r"A-Za-z0-9._~\-"
RESERVED = r":/?#\[\]@!$&'()*+,;="
TRIPLET = "%[0-9A-Fa-f]{2}"
VARIABLE = rf"(?:[A-Za-z0-9_]|{TRIPLET})+(?:\.(?:[A-Za-z0-9_]|{TRIPLET})+)*(?:\*|:[1-9][0-9]{{0,3}})?"
EXPRESSION = re.compile(rf"\{{([+#./;?&]?)({VARIABLE}(?:,{VARIABLE})*)\}}")
LITERAL = re.compile(  # section 2.1, and the apostrophe of its erratum 6937
    rf"(?:[!#$&-;=?-\[\]_a-z~\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\uffef\U00010000-\U0010ffff]|{TRIPLET})*"
)
OPERATORS: dict[str, tuple[str, str]] = {
    "": ("", ","),
    "+": ("", ","),
    "#": ("#", ","),
    ".": (".", "."),
    "/": ("/", "/"),
    ";": (";", ";"),
    "?": ("?", "&"),
    "&": ("&", "&"),
}
"""By the operator of an expression, what an expansion begins with, and what is between the values (appendix A)."""
NAMED = frozenset(";?&")


class NoTemplate(ValueError):
    """It is no URI template, or none that is taken here."""


def compiled(template: str) -> Any:
    """What matches all that it may expand to, and nothing else: `fullmatch`. Raises NoTemplate."""
    parts, at, variables = [], 0, 0
    while at < len(template):
        literal = LITERAL.match(template, at)
        assert literal is not None  # it may be empty
        parts.append(re2.escape(literal[0]))
        at = literal.end()
        if at == len(template):
            break
        expression = EXPRESSION.match(template, at)
        if expression is None:
            raise NoTemplate(f"it cannot be read from character {at} on")
        names = expression[2].split(",")
        variables += len(names)
        if variables > MOST_VARIABLES:
            raise NoTemplate(f"it has more than {MOST_VARIABLES} variables")
        parts.append(_expansions(expression[1], names))
        at = expression.end()
    options = re2.Options()
    options.max_mem, options.log_errors = MOST_MEMORY, False
    try:
        return re2.compile("".join(parts), options)
    except re2.error:
        raise NoTemplate("it is too large") from None


def _expansions(operator: str, names: list[str]) -> str:
    """Of an expression. A value may be a list, or pairs."""
    first, between = OPERATORS[operator]
    explodes = any(name.endswith("*") for name in names)
    if operator in ("+", "#"):
        letters = UNRESERVED + RESERVED
    else:
        letters = UNRESERVED + "," + ("=" if operator in NAMED or explodes else "")
    value = f"(?:[{letters}]|{TRIPLET})*"
    further = "*" if explodes else f"{{0,{len(names) - 1}}}"
    values = f"{value}(?:{re2.escape(between)}{value}){further}" if explodes or len(names) > 1 else value
    return f"(?:{re2.escape(first)}{values})?"
