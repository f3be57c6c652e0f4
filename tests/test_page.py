"""Laws of the live page that need no browser: nothing from outside, nothing the policy blocks, text never as markup.

What the page does to text runs here under Node; the browser client that is in it has tests of its own.
"""

import gzip
import json
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from sse_fast.edge.page import HEADERS, PACKED, PAGE
from sse_fast.js import CLIENT, INTEGRITY

TEXT = PAGE.decode()


class Elements(HTMLParser):
    """Every start tag with its attributes, the text of each script and style, and the fields outside any label."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, list[str]] = {"script": [], "style": []}
        self.bare_fields: list[str] = []
        self._open: list[str] = []
        self.feed(TEXT)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.blocks:
            self.blocks[tag].append("")
        if tag in ("input", "select", "textarea") and "label" not in self._open:
            self.bare_fields.append(str(attrs))
        if tag in ("label", *self.blocks):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.blocks:
            self.blocks[self._open[-1]][-1] += data


ELEMENTS = Elements()


def policy() -> dict[str, list[str]]:
    directives = (directive.split() for directive in HEADERS["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in directives}


def test_every_class_that_the_styles_speak_of_is_one_of_the_page() -> None:
    (style,) = ELEMENTS.blocks["style"]
    styled = set(re.findall(r"\.([a-z][\w-]*)", style))
    used = {name for _, attributes in ELEMENTS.tags for name in (attributes.get("class") or "").split()}
    used |= set(re.findall(r"[\w-]+", "".join(ELEMENTS.blocks["script"])))
    assert styled <= used


def test_the_page_names_no_outside_host() -> None:
    without_namespace = TEXT.replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?i)\b(?:https?|wss?|ftp)://", without_namespace)
    assert not re.findall(r"""["'(=]\s*//[\w.]""", without_namespace)
    without_its_advice = TEXT.replace("(await import('${home}client.js'))", "")
    assert not re.findall(r"@import|url\(|@font-face|\bimport\b\s*[({\"']", without_its_advice)


def test_every_address_in_an_attribute_is_relative_or_data() -> None:
    addresses = [
        value or ""
        for _, attributes in ELEMENTS.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "formaction", "poster", "srcset")
    ]
    assert addresses
    assert all(address.startswith("data:") or re.fullmatch(r"[\w?=&%.-]+", address) for address in addresses)


@pytest.mark.parametrize(("directive", "tag"), [("script-src", "script"), ("style-src", "style")])
def test_the_policy_names_exactly_the_inline_blocks_and_the_browser_client_by_their_hashes(
    directive: str, tag: str
) -> None:
    blocks = ELEMENTS.blocks[tag]
    assert len(blocks) == sum(name == tag for name, _ in ELEMENTS.tags) == 1
    hashes = [f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'" for block in blocks]
    client = [f"'{INTEGRITY}'"] if tag == "script" else []
    assert policy()[directive] == hashes + client


def test_the_policy_allows_nothing_else() -> None:
    rest = {name: sources for name, sources in policy().items() if name not in ("script-src", "style-src")}
    assert rest == {
        "default-src": ["'none'"],
        "connect-src": ["'self'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


def test_the_page_has_no_carriage_return_because_browsers_hash_what_they_normalized() -> None:
    assert b"\r" not in PAGE


def test_as_gzip_it_is_the_same_page() -> None:
    assert gzip.decompress(PACKED) == PAGE
    assert HEADERS["Vary"] == "Accept-Encoding"


def test_no_element_has_an_inline_handler_or_a_style_attribute() -> None:
    assert not [
        (tag, name)
        for tag, attributes in ELEMENTS.tags
        for name, value in attributes.items()
        if name == "style" or name.startswith("on") or (value or "").lower().startswith("javascript:")
    ]


def test_the_script_makes_no_markup_out_of_text_and_keeps_nothing_but_the_token_for_its_tab() -> None:
    (script,) = ELEMENTS.blocks["script"]
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
    assert not re.findall(forbidden, script)
    assert not re.findall(r"localStorage|indexedDB|document\.cookie", script)
    assert re.findall(r"sessionStorage.*", script) == [
        'sessionStorage.getItem(KEPT) ?? ""; } catch { /* so be it */ }',
        "sessionStorage.setItem(KEPT, token()); } catch { /* so be it */ }",
    ]
    assert not re.findall(r"""setAttribute\(\s*["'](?:style|on)""", script)


def test_every_id_that_the_script_names_is_in_the_page_once() -> None:
    (script,) = ELEMENTS.blocks["script"]
    ids = [attributes["id"] for _, attributes in ELEMENTS.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"""\$\("([\w-]+)"\)""", script)) <= set(ids)


def test_every_field_has_a_label() -> None:
    assert not ELEMENTS.bare_fields


# ---- the page's own functions, under Node ----


def source(start: str) -> str:
    """The top-level class or function of the page's script that begins with `start`."""
    (script,) = ELEMENTS.blocks["script"]
    begin = script.index("\n" + start)
    return script[begin : script.index("\n}\n", begin) + 3]


def node(code: str, argument: Any) -> Any:
    executable = shutil.which("node")
    if executable is None:
        pytest.skip("node is not installed")
    program = f"{code}\nprocess.stdout.write(JSON.stringify(main({json.dumps(argument)})));"
    done = subprocess.run([executable, "-e", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def constant(name: str) -> str:
    (script,) = ELEMENTS.blocks["script"]
    found = re.search(rf"^const {name} = .*\n", script, re.MULTILINE)
    assert found is not None
    return found[0]


INDENTED = constant("TOKENS") + source("function indented")


def test_json_stays_on_a_line_that_it_fits_into() -> None:
    code = INDENTED + "const main = (t) => t.map((text) => indented(text, 30));"
    texts = [
        '{"a":1,"b":[1,2]}',
        '{"name":"a longer text","at":{"x":1,"y":[1,2]},"none":[],"rest":"another text"}',
    ]
    short, long = node(code, texts)
    assert short == '{"a": 1, "b": [1, 2]}'
    assert long.splitlines() == [
        "{",
        '  "name": "a longer text",',
        '  "at": {"x": 1, "y": [1, 2]},',
        '  "none": [],',
        '  "rest": "another text"',
        "}",
    ]


HISTORY = """
const HOLE = 5000;
let seconds = [];
"""


def test_a_chart_has_a_hole_where_nobody_knows_and_means_over_several_seconds() -> None:
    code = (
        HISTORY
        + source("function points")
        + """
const main = ([times, step, most]) => {
    seconds = times.map(([time, value]) => ({ time, value }));
    return points(({ value }) => value, 0, step, most);
};"""
    )
    second = [[1000, 10], [2000, 20], [3000, 30], [4000, 40]]
    assert node(code, [second, 1000, False]) == [[1500, 10], [2500, 20], [3500, 30], [4500, 40]]
    assert node(code, [second, 2000, False]) == [[1000, 10], [3000, 25], [5000, 40]]
    assert node(code, [second, 2000, True]) == [[1000, 10], [3000, 30], [5000, 40]]
    assert node(code, [[[1000, 1], [20000, 2]], 1000, False]) == [[1500, 1], [20000, None], [20500, 2]]
    assert node(code, [[[1000, 1], [2000, None], [3000, 2]], 1000, False]) == [[1500, 1], [2000, None], [3500, 2]]


def test_the_script_is_one_module_whose_names_are_each_there_once() -> None:
    executable = shutil.which("node")
    if executable is None:
        pytest.skip("node is not installed")
    (script,) = ELEMENTS.blocks["script"]
    command = [executable, "--input-type=module", "--check"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not re.findall(r"^(?:import|export) (?!\{ connect)", script.split(CLIENT.decode())[1], re.MULTILINE)


def test_indented_json_keeps_every_token_as_it_was_sent() -> None:
    texts = [
        '{"big":12345678901234567890,"exact":1.0,"e":1E3,"same":1,"same":2}',
        '[[],{},[{}],{"a":[]},"x, {y}: \\"z\\" [\\\\",null,true,-0.5]',
        ' { "a" : [ 1 , 2 ] , "b" : "" } ',
    ]
    for text, shown in zip(
        texts, node(INDENTED + "const main = (t) => t.map((text) => indented(text));", texts), strict=True
    ):
        # The layout is json.dumps's own; its numbers are parsed as text, so that they can't be rounded on the way.
        pairs = json.loads(text, parse_int=Raw, parse_float=Raw, object_pairs_hook=Pairs)
        assert shown == layout(pairs)


def test_what_is_no_json_object_or_array_is_shown_as_it_stands() -> None:
    texts = ["plain", "", "1e400", '"text"', "{not json}", "[1,", '{"a": 1} trailing']
    assert node(INDENTED + "const main = (t) => t.map((text) => indented(text));", texts) == texts


class Raw(str):
    """A number as it was written."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys in order, repeated ones too."""


def layout(value: Any, depth: int = 0) -> str:
    """JSON over several lines, two spaces a level; empty objects and arrays on one."""
    if isinstance(value, Raw):
        return str(value)
    if not isinstance(value, list):
        return json.dumps(value)
    opening, closing = "{}" if isinstance(value, Pairs) else "[]"
    if not value:
        return opening + closing
    inner = "\n" + "  " * (depth + 1)
    if isinstance(value, Pairs):
        items = [f"{json.dumps(key)}: {layout(item, depth + 1)}" for key, item in value]
    else:
        items = [layout(item, depth + 1) for item in value]
    return opening + inner + f",{inner}".join(items) + "\n" + "  " * depth + closing
