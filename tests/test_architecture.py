"""The house keeps its shape: arrows point one way. A module that is not in the table fails until it has its place."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, SOURCES = ROOT / "sse_fast", ROOT / "src_ext"

# Who may import whom. `errors` and `event` are words everybody may use but for those who stand below them.
NATIVE_ARROWS = {
    "frame": {"errors"},
    "publication": {"errors", "event", "frame"},
    "ring": {"errors"},
    "index": {"ring", "errors"},
    "sink": {"linux"},
    "fanout": {"index", "ring", "sink", "linux", "errors"},
    "listener": {"fanout", "sink", "linux", "errors"},
    "linux": set(),  # declarations of system calls
    "board": {"linux"},
    "slots": set(),
    "stream_parser": {"board"},
    "dial": {"linux"},
    "publisher": {"board", "dial", "linux", "stream_parser"},
    "swarm": {
        "errors",
        "descriptors",
        "board",
        "dial",
        "linux",
        "publisher",
        "stream_parser",
        "settings",
    },  # and the package of that name
}
ARROWS = {
    "errors": set(),
    "settings": set(),
    "event": {"errors", "frame"},
    "sinks": {"errors", "sink"},
    "hub": {"errors", "event", "publication", "sinks", "frame", "ring", "index", "sink", "fanout"},
    "segment": {"errors", "ring"},
    "workers": {"errors", "ring", "segment", "slots"},
    "admission": {"errors", "event", "settings"},
    "page": set(),
    "problem": set(),
    "asgi": set(),
    "version": set(),
    "stream": {"errors", "event", "asgi", "admission", "hub", "problem", "sink", "fanout"},
    "door": {"errors", "address", "asgi", "problem", "stream", "listener", "sink", "fanout"},
    "hooks": {"asgi", "errors", "event", "items"},
    "embedded": {"errors", "event", "asgi", "publication", "admission", "hub", "problem", "stream", "ring"}
    | {"hooks", "shutdown"},
    "metrics": {"errors", "event", "admission", "hub", "stream", "slots", "version"},  # it reads what the others count
    "api": {"errors", "event", "publication", "admission", "hub", "metrics", "page", "problem"},
    "logs": {"errors", "settings"},
    "app": {
        "errors",
        "event",
        "frame",
        "settings",
        "admission",
        "hub",
        "workers",
        "metrics",
        "page",
        "stream",
        "door",
        "api",
    }
    | {"logs", "kernel", "asgi", "shutdown", "descriptors", "embedded"},
    "kernel": set(),
    "descriptors": set(),
    "address": set(),
    "testing": {"asgi"},
    "shutdown": set(),
    "items": {"errors", "event", "frame"},
    "connection": {"asgi", "errors", "frame", "shutdown"},
    "responses": {"errors", "event", "frame", "asgi", "items", "connection"},
    "writer": {"errors", "event", "frame", "asgi", "items", "connection"},
    "supervisor": {"workers"},
    "serve": {"errors", "address", "settings", "logs", "app", "descriptors", "ring", "segment", "supervisor", "workers"}
    | {"version"},
    "client": {"errors", "event"},
    "bench": {"swarm"},
    "locust": {"errors", "client", "board", "dial", "swarm", "descriptors"},
    "cli": {"errors", "settings", "logs", "serve", "client", "bench"},
    "__main__": {"cli"},
    "__init__": None,  # the public names: it may gather them from anywhere
    "_native": set(),
} | NATIVE_ARROWS

CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(sse_fast[\w.]*)\s+c?import\s+([\w, ]+)|c?import\s+(sse_fast[\w.]*))", re.M)


def module_of(path: Path) -> str:
    """sse_fast/hub.py -> hub; sse_fast/page/__init__.py -> page; src_ext/ring.pyx and _native/ring.pxd -> ring."""
    if path.suffix != ".py" or path.parent == PACKAGE:
        return path.stem
    return path.relative_to(PACKAGE).parts[0]


def target_of(dotted: str, name: str | None = None) -> str:
    """The module meant by `import dotted`, or by `from dotted import name`."""
    parts = [part for part in dotted.split(".")[1:] if part != "_native"]
    if parts:
        return parts[0]
    return name if name in ARROWS else "__init__"


def python_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {target_of(alias.name) for alias in node.names if alias.name.split(".")[0] == "sse_fast"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}: one dot at most, so that the arrow can be read"
            dotted = ".".join(filter(None, ["sse_fast" if node.level else "", node.module]))
            if dotted.split(".")[0] == "sse_fast":
                found |= {target_of(dotted, alias.name) for alias in node.names}
    return found


def cython_imports(path: Path) -> set[str]:
    found = set()
    for module, names, plain in CYTHON_IMPORT.findall(path.read_text()):
        for name in names.split(",") if names else [None]:
            found.add(target_of(module or plain, name.strip() if name else None))
    return found


FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pxd"), *SOURCES.glob("*.pyx"), *SOURCES.glob("*.pxd")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_is_an_arrow_of_the_table(path: Path) -> None:
    module = module_of(path)
    assert module in ARROWS, f"{path.name} has no place in the house yet: give it a row in ARROWS"
    allowed = ARROWS[module]
    if allowed is not None:
        imported = python_imports(path) if path.suffix == ".py" else cython_imports(path)
        forbidden = imported - allowed - {module}
        assert not forbidden, f"{module} may not import {sorted(forbidden)}"


def test_the_table_has_no_circle() -> None:
    below = {module: set(arrows or ()) for module, arrows in ARROWS.items() if module != "__init__"}
    while ground := {module for module, arrows in below.items() if not arrows}:
        below = {module: arrows - ground for module, arrows in below.items() if module not in ground}
    assert not below, f"these reach themselves: {sorted(below)}"


def test_the_reader_of_imports_reads_them_all(tmp_path: Path) -> None:
    cython = tmp_path / "x.pyx"
    cython.write_text(
        "from sse_fast._native.ring cimport Log\nfrom sse_fast._native cimport index, fanout\n"
        "    from sse_fast.hub import Hub\ncimport sse_fast._native.frame\nimport sse_fast.errors\n"
        "from os import path\n"
    )
    assert cython_imports(cython) == {"ring", "index", "fanout", "hub", "frame", "errors"}
    python = tmp_path / "x.py"
    python.write_text(
        "import sse_fast.hub\nfrom sse_fast import api, Event\ndef f():\n  from sse_fast._native import ring"
    )
    assert python_imports(python) == {"hub", "api", "__init__", "ring"}


def test_no_pxd_stands_where_cython_would_not_find_it() -> None:
    assert not list(SOURCES.glob("*.pxd"))


def test_every_native_module_promises_itself_to_python() -> None:
    for source in SOURCES.glob("*.pyx"):
        assert (PACKAGE / "_native" / f"{source.stem}.pyi").exists()
