"""The house keeps its shape: arrows point one way. A module that is not in the table fails until it has its place."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, SOURCES = ROOT / "sse_fast", ROOT / "src_ext"

# Who may import whom, by full name below `sse_fast`; and does: an arrow that nobody uses is taken out.
ARROWS: dict[str, str | None] = {
    "_native": "",
    "_native.frame": "datastar errors serialization",
    "_native.carry": "",
    "_native.grammar": "_native.carry",
    "_native.event_parser": "errors _native.carry _native.grammar",
    "_native.publication": "datastar errors event serialization _native.frame",
    "_native.ring": "errors",
    "_native.index": "_native.queue _native.ring",
    "_native.queue": "",
    "_native.sink": "errors _native.linux",
    "_native.fanout": "errors _native.index _native.linux _native.queue _native.ring _native.sink",
    "_native.listener": "errors _native.fanout _native.linux _native.sink",
    "_native.linux": "",
    "_native.connections": "_native.linux",
    "_native.board": "",
    "_native.verify": "_native.ring",
    "_native.slots": "",
    "_native.framing": "_native.board _native.carry _native.grammar",
    "_native.stream_parser": "_native.board _native.carry _native.framing _native.grammar",
    "_native.dial": "_native.linux",
    "_native.publisher": "_native.board _native.dial _native.framing _native.linux _native.stream_parser",
    "_native.swarm": "_native.board _native.dial _native.framing _native.linux _native.publisher _native.stream_parser",
    "errors": "",
    "settings": "",
    "serialization": "errors",
    "datastar": "errors",
    "event": "errors _native.frame",
    "sinks": "errors _native.sink",
    "hub": "errors event other_workers sinks _native.fanout _native.publication _native.ring _native.sink",
    "segment": "errors _native.ring _native.verify",
    "workers": "segment _native.ring _native.slots",
    "admission": "errors",
    "page": "",
    "problem": "",
    "asgi": "",
    "version": "",
    "stream": "admission asgi errors event hub problem _native.fanout _native.sink",
    "door": "asgi errors kernel problem stream _native.fanout _native.listener _native.sink",
    "hooks": "asgi errors event _native.frame",
    "embedded": "admission asgi errors event hooks hub problem shutdown stream _native.publication _native.ring",
    "metrics": "admission errors hub stream version _native.slots",
    "listing": "errors event _native.index",
    "api": "admission asgi errors event hub listing metrics page problem _native.publication",
    "logs": "",
    "cors": "",
    "app": "admission api asgi cors descriptors door embedded kernel listening metrics settings shutdown stream workers"
    " _native.frame",
    "kernel": "address hub settings _native.connections",
    "listening": "",
    "other_workers": "listening",
    "descriptors": "",
    "address": "",
    "testing": "asgi _native.event_parser",
    "shutdown": "",
    "items": "errors event serialization _native.frame",
    "connection": "asgi errors shutdown _native.frame",
    "responses": "asgi connection errors items",
    "writer": "asgi connection errors _native.frame",
    "supervisor": "kernel workers",
    "claims": "",
    "memory": "",
    "serve": "address app claims descriptors errors kernel logs memory segment settings supervisor version workers"
    " _native.ring",
    "client": "errors serialization _native.event_parser",
    "swarm.figures": "",
    "swarm.units": "",
    "swarm.plots": "swarm.units",
    "swarm.curves": "swarm.plots swarm.units",
    "swarm.results": "_native.board",
    "swarm.facts": "errors swarm.curves swarm.figures swarm.results swarm.units",
    "swarm.plan": "errors _native.dial _native.stream_parser",
    "swarm.compare": "swarm.curves swarm.facts swarm.plots swarm.units",
    "swarm.server": "errors swarm.plan",
    "swarm.report": "swarm.compare swarm.curves swarm.facts swarm.figures swarm.plots swarm.units",
    "swarm.runner": "descriptors errors swarm.plan swarm.results swarm.server _native.board",
    "swarm.worker": "descriptors _native.board _native.dial _native.swarm",
    "swarm.modes": "swarm.plan swarm.results swarm.runner swarm.server",
    "swarm.terminal": "swarm.figures swarm.results swarm.runner",
    "swarm": "swarm.modes swarm.plan swarm.results swarm.runner swarm.server",
    "swarm.cli": "settings swarm.facts swarm.modes swarm.plan swarm.report swarm.server swarm.terminal",
    "bench": "swarm.cli",
    "locust": "client descriptors errors swarm.plan swarm.results _native.board _native.dial _native.event_parser"
    " _native.swarm",
    "cli": "bench client logs serve settings _native.event_parser",
    "__main__": "cli",
    "__init__": None,  # the public names: it may gather them from anywhere
}

NAMES = r"\((?P<in_parentheses>[^)]*)\)|(?P<plain>[^\n(]*)"
CYTHON_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?:{NAMES})|c?import[ \t]+(?P<modules>[^\n]*))", re.M
)


def module_of(path: Path) -> str:
    """sse_fast/hub.py -> hub; sse_fast/swarm/plan.py -> swarm.plan; sse_fast/page/__init__.py -> page;
    src_ext/ring.pyx and sse_fast/_native/ring.pxd -> _native.ring; sse_fast/__init__.py -> __init__."""
    if path.suffix == ".pyx":
        return f"_native.{path.stem}"
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = sorted(file for kind in ("*.py", "*.pyi", "*.pxd") for file in PACKAGE.rglob(kind)) + sorted(
    SOURCES.rglob("*.pyx")
)
MODULES = {module_of(path) for path in FILES}


def target_of(dotted: str, name: str | None = None) -> str | None:
    """The module meant by `import dotted`, or by `from dotted import name`; None: it is not ours."""
    package, _, module = dotted.partition(".")
    if package != "sse_fast":
        return None
    within = ".".join(filter(None, (module, name)))
    return within if within in MODULES else module or "__init__"


def names_of(listed: str) -> list[str]:
    """What `import` lists, without comments, line ends and other names that are given to it."""
    plain = re.sub(r"#[^\n]*|\\\n", " ", listed)
    return [name.split()[0] for name in plain.split(",") if name.strip()]


def python_imports(source: str, module: str = "") -> Iterator[tuple[str, str | None]]:
    """(dotted, name) of each; a leading dot is the package of `module`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{module}: one dot at most, so that the arrow can be read"
            here = ["sse_fast", module.rpartition(".")[0]] if node.level else []
            yield from ((".".join(filter(None, [*here, node.module])), alias.name) for alias in node.names)


def cython_imports(source: str) -> Iterator[tuple[str, str | None]]:
    """(dotted, name) of each; none may be relative."""
    for found in CYTHON_IMPORT.finditer(source):
        dotted = found["module"]
        if dotted is None:
            yield from ((name, None) for name in names_of(found["modules"]))
        else:
            assert not dotted.startswith("."), f"write it out, so that the arrow can be read: {found[0]}"
            listed = found["in_parentheses"] if found["plain"] is None else found["plain"]
            yield from ((dotted, name) for name in names_of(listed))


def imported_by(module: str) -> set[str]:
    """The modules that this one names, in any of its files."""
    found = set()
    for path in FILES:
        if module_of(path) == module:
            read = path.read_text()
            imports = python_imports(read, module) if path.suffix in (".py", ".pyi") else cython_imports(read)
            found |= {target_of(*each) for each in imports}
    return {target for target in found if target is not None} - {module}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_import_is_an_arrow_of_the_table_and_every_arrow_an_import(module: str) -> None:
    assert module in ARROWS, f"{module} has no place in the house yet: give it a row in ARROWS"
    allowed = ARROWS[module]
    if allowed is not None:
        imported = imported_by(module)
        forbidden, unused = imported - set(allowed.split()), set(allowed.split()) - imported
        assert not forbidden, f"{module} may not import {sorted(forbidden)}"
        assert not unused, f"{module} no longer imports {sorted(unused)}: take them out of its row"


def test_every_row_of_the_table_is_a_module() -> None:
    assert ARROWS.keys() == MODULES


def test_the_table_has_no_circle() -> None:
    below = {module: set((arrows or "").split()) for module, arrows in ARROWS.items() if module != "__init__"}
    while ground := {module for module, arrows in below.items() if not arrows}:
        below = {module: arrows - ground for module, arrows in below.items() if module not in ground}
    assert not below, f"these reach themselves: {sorted(below)}"


def test_the_reader_of_imports_reads_them_all() -> None:
    cython = """
from sse_fast._native.ring cimport Log
from sse_fast._native cimport index, fanout as out
    from sse_fast.hub import Hub, \\
        Subscription
cimport sse_fast._native.frame
import sse_fast.errors as errors, os
from sse_fast._native.linux cimport (
    EAGAIN,  # not now, and
    EINTR,
)
from sse_fast._native cimport (sink,
    dial)
from os import path
"""
    assert {target_of(*each) for each in cython_imports(cython)} == {None} | {
        f"_native.{name}" for name in ("ring", "index", "fanout", "frame", "linux", "sink", "dial")
    } | {"hub", "errors"}
    with pytest.raises(AssertionError, match="write it out"):
        list(cython_imports("from .ring cimport Log"))
    python = """
import sse_fast.hub, os
from sse_fast import api, Event
from sse_fast.swarm import units, Plan
from sse_fast.swarm.plan import Target
from . import curves
from .facts import Facts
if TYPE_CHECKING:
    from sse_fast._native import ring
"""
    assert {target_of(*each) for each in python_imports(python, "swarm.report")} == {
        *(None, "hub", "api", "__init__", "swarm.units", "swarm", "swarm.plan", "swarm.curves", "swarm.facts"),
        "_native.ring",
    }


def test_no_pxd_stands_where_cython_would_not_find_it() -> None:
    assert not list(SOURCES.glob("*.pxd"))


def test_every_native_module_promises_itself_to_python() -> None:
    for source in SOURCES.glob("*.pyx"):
        assert (PACKAGE / "_native" / f"{source.stem}.pyi").exists()
