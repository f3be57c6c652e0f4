"""The house keeps its shape: arrows point one way. A module that is not in the table fails until it has its place."""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE, SOURCES = ROOT / "sse_fast", ROOT / "src_ext"

# Which rooms each may reach, beside itself; a module beside the rooms is one of its own. And does: an arrow that nobody
# uses is taken out.
ROOMS: dict[str, str | None] = {
    "_native": "",
    "_native.base": "errors",
    "base": "",
    "ends": "errors",
    "errors": "",
    "js": "",
    "logs": "",
    "settings": "access",
    "version": "",
    "_native.node": "_native.base",
    "access": "errors event_rules",
    "datastar": "errors",
    "event_rules": "errors",
    "serialization": "errors",
    "_native.wire": "_native.base datastar errors event_rules serialization",
    "_native.log": "_native.base _native.wire errors event_rules",
    "_native.fanout": "_native.base _native.log _native.wire ends errors",
    "_native.bench": "_native.base _native.wire",
    "_native.front": "_native.base _native.fanout _native.wire ends errors event_rules",
    "cluster": "_native.wire client errors event event_rules",
    "client": "_native.wire errors event event_rules logs serialization",
    "schema": "_native.wire base errors event_rules js serialization",
    "protocol": "_native.wire access errors event_rules",
    "asgi": "protocol",
    "event": "_native.wire event_rules",
    "testing": "_native.wire asgi errors",
    "bench": "_native.bench _native.wire base client errors settings",
    "hub": "_native.fanout _native.log _native.wire base cluster ends errors event event_rules schema",
    "transports": "_native.base _native.fanout _native.front _native.wire access asgi base ends errors event_rules hub"
    " protocol settings",
    "embed": "_native.log _native.wire access asgi base client ends errors event event_rules hub protocol schema"
    " serialization transports",
    "edge": "_native.base _native.fanout _native.log _native.node _native.wire access asgi base embed errors event"
    " event_rules hub js protocol schema settings transports version",
    "outbox": "_native.wire client embed errors event_rules schema",
    "node": "_native.base _native.log _native.node access asgi base edge errors hub logs protocol schema settings"
    " transports version",
    "cli": "_native.wire access base bench client errors event_rules logs node outbox schema settings",
    "__main__": "cli errors",
    "__init__": None,  # the public names: it may gather them from anywhere
}

NAMES = r"\((?P<in_parentheses>[^)]*)\)|(?P<plain>[^\n(]*)"
CYTHON_IMPORT = re.compile(
    rf"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?:{NAMES})|c?import[ \t]+(?P<modules>[^\n]*))", re.M
)


def module_of(path: Path) -> str:
    """sse_fast/hub/hub.py -> hub.hub; sse_fast/edge/page/__init__.py -> edge.page; src_ext/log/ring.pyx and
    sse_fast/_native/log/ring.pxd -> _native.log.ring; sse_fast/__init__.py -> __init__."""
    if path.suffix == ".pyx":
        return ".".join(("_native", *path.relative_to(SOURCES).with_suffix("").parts))
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """hub.hub -> hub; _native.log.ring -> _native.log; errors -> errors."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "_native" else 1])


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


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES}))
def test_every_import_is_an_arrow_of_the_table_and_every_arrow_an_import(room: str) -> None:
    assert room in ROOMS, f"{room} has no place in the house yet: give it a row in ROOMS"
    allowed = ROOMS[room]
    if allowed is not None:
        arrows = {(module, target) for module in MODULES if room_of(module) == room for target in imported_by(module)}
        forbidden = {arrow for arrow in arrows if room_of(arrow[1]) not in {room, *allowed.split()}}
        unused = set(allowed.split()) - {room_of(target) for _, target in arrows}
        assert not forbidden, f"{room} may not reach: {sorted(forbidden)}"
        assert not unused, f"{room} no longer reaches {sorted(unused)}: take them out of its row"


def test_every_row_of_the_table_is_a_room() -> None:
    assert ROOMS.keys() == {room_of(module) for module in MODULES}


def circles(below: dict[str, set[str]]) -> list[str]:
    """Those that reach themselves, or such."""
    while ground := {one for one, others in below.items() if not others & below.keys()}:
        below = {one: others for one, others in below.items() if one not in ground}
    return sorted(below)


def test_no_room_reaches_itself_through_others() -> None:
    assert not circles({room: set((allowed or "").split()) for room, allowed in ROOMS.items()})


def test_no_module_reaches_itself_through_others_of_its_room_neither() -> None:
    assert not circles({module: imported_by(module) for module in MODULES - {"__init__"}})


def test_the_reader_of_imports_reads_them_all() -> None:
    cython = """
from sse_fast._native.log.ring cimport Log
from sse_fast._native.log cimport index
from sse_fast._native.fanout cimport drain as out
    from sse_fast.hub.hub import Hub, \\
        Subscription
cimport sse_fast._native.wire.frame
import sse_fast.errors as errors, os
from sse_fast._native.base.linux cimport (
    EAGAIN,  # not now, and
    EINTR,
)
from sse_fast._native.fanout cimport (sinks,
    drain)
from sse_fast._native.bench cimport dial
from os import path
"""
    assert {target_of(*each) for each in cython_imports(cython)} == {None} | {
        f"_native.{name}"
        for name in ("log.ring", "log.index", "fanout.drain", "wire.frame", "base.linux", "fanout.sinks", "bench.dial")
    } | {"hub.hub", "errors"}
    with pytest.raises(AssertionError, match="write it out"):
        list(cython_imports("from .ring cimport Log"))
    python = """
import sse_fast.hub.hub, os
from sse_fast import Event
from sse_fast.edge import page
from sse_fast.bench import units, Plan
from sse_fast.bench.plan import Target
from . import curves
from .facts import Facts
if TYPE_CHECKING:
    from sse_fast._native.log import ring
"""
    assert {target_of(*each) for each in python_imports(python, "bench.report")} == {
        *(None, "hub.hub", "edge.page", "__init__"),
        *("bench", "bench.units", "bench.plan", "bench.curves", "bench.facts"),
        "_native.log.ring",
    }


@pytest.mark.parametrize("room", ["protocol", "access"])
def test_who_decides_knows_no_loop_and_no_socket_and_waits_for_nothing(room: str) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {dotted.partition(".")[0] for dotted, _ in python_imports(path.read_text(), room + ".")}
        assert not imported & {"asyncio", "socket", "anyio", "uvloop", "threading"}, path
        waits = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith)]
        assert not waits, path


def test_no_pxd_stands_where_cython_would_not_find_it() -> None:
    assert not list(SOURCES.rglob("*.pxd"))


def test_every_native_module_promises_itself_to_python() -> None:
    for source in SOURCES.rglob("*.pyx"):
        assert (PACKAGE / "_native" / source.relative_to(SOURCES).with_suffix(".pyi")).exists()


C_STANDARD = {"limits.h", "math.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h", "time.h", "Python.h"}
CYTHON_S_C = {f"libc.{name}" for name in ("limits", "math", "stddef", "stdint", "stdio", "stdlib", "string", "time")}
OF_A_COMPILER = re.compile(
    r"__(?:builtin|atomic|sync|attribute)\w*|#\s*pragma|# *distutils:|\basm\b|#\s*if.*\b_?_\w+\b"
)


@pytest.mark.parametrize(
    "file", [path for path in FILES if path.suffix in (".pyx", ".pxd") and "base" not in path.parts], ids=module_of
)
def test_what_is_of_one_system_compiler_or_architecture_stands_in_the_base(file: Path) -> None:
    read = file.read_text()
    headers = re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]|cdef extern from "<?([^">]+)>?"', read)
    assert {one or other for one, other in headers} <= C_STANDARD
    modules = {dotted for dotted, _ in cython_imports(read)}
    ours = ("sse_fast", "cpython", "cython")
    named = {module for module in modules if module.startswith("libc") or "posix" in module}
    assert named <= CYTHON_S_C, f"{file}: only what is in the C standard, or in {ours}"
    assert not OF_A_COMPILER.findall(read)


def test_no_flag_of_a_compiler_stands_outside_of_the_base() -> None:
    flags = re.compile(r"[\"']-(?:[fmOUDWg][\w=-]*|std=.*?)[\"']")
    setup = (ROOT / "setup.py").read_text()
    assert not flags.findall(setup)
    assert flags.findall((SOURCES / "base" / "system.py").read_text())
    assert not re.search(r"platform|machine\(|linux", setup)


def public(body: Iterable[ast.stmt]) -> set[str]:
    """What a stub says that there is, but for names of types."""
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if not any(isinstance(on, ast.Name) and on.id == "type_check_only" for on in node.decorator_list):
                found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("_native/**/*.pyi")), ids=module_of)
def test_a_native_module_has_what_its_stub_promises_and_promises_what_it_has(stub: Path) -> None:
    module = importlib.import_module(f"sse_fast.{module_of(stub)}")
    body = ast.parse(stub.read_text()).body
    has = {name for name, what in vars(module).items() if getattr(what, "__module__", None) == module.__name__}
    assert public(body) <= vars(module).keys()
    assert {name for name in has if not name.startswith("_")} <= public(body)
    for promised in body:
        if isinstance(promised, ast.ClassDef) and promised.name in public(body):
            made = getattr(module, promised.name)
            inherited = {name for base in made.__mro__[1:] for name in vars(base)}
            own = {name for name in vars(made) if not name.startswith("_")}
            assert public(promised.body) <= own | inherited
            assert own - inherited <= public(promised.body)
