"""What is shipped: the sdist builds, the wheel is whole, and both say the version that everything else says."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from documentation import TEXT

from sse_fast import js
from sse_fast.edge import page

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NATIVE = ROOT / "sse_fast" / "_native"
MODULES = {path.relative_to(ROOT / "src_ext").with_suffix("").as_posix() for path in (ROOT / "src_ext").rglob("*.pyx")}
BESIDE_THE_MODULES = {path.relative_to(ROOT).as_posix() for end in ("pxd", "pyi") for path in NATIVE.rglob(f"*.{end}")}
PAGE = ("index.html", *(f"{name}.css" for name in page.STYLES), *(f"{name}.js" for name in page.MODULES))
PAGES = {f"sse_fast/edge/page/{name}" for name in PAGE} | {"sse_fast/bench/report.html"}
CARRIED = {f"sse_fast/schema/runtime/{name}" for name in ("stream.elm", "ports.js", "stream.ts")}
CARRIED |= {"sse_fast/cluster/functions.lua", "sse_fast/js/sse-fast.js", "sse_fast/js/sse-fast.d.ts"}
CARRIED |= {f"sse_fast/js/client/{part}.ts" for part in js.PARTS}
SHIPPED = {"sse_fast/py.typed", "sse_fast/_native/__init__.py"} | PAGES | CARRIED | BESIDE_THE_MODULES
SOURCES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sse_fast").rglob("*.py")}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end; its output."""
    # Nothing of the source tree or of an outer build may shine through.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SSE_FAST_"))}
    environment["SSE_FAST_CFLAGS"] = "-O0"  # what is built is looked at, and hardly run
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made of what git has: nothing that was built here can slip in, nothing is built here."""
    tree, made = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("sdist")
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    make = f"from setuptools.build_meta import build_sdist; build_sdist({str(made)!r})"
    run(sys.executable, "-c", make, cwd=tree)
    [archive] = made.iterdir()
    return archive


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist and nothing else."""
    made = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made)
    run(*pip, sdist, cwd=made)
    [archive] = made.iterdir()
    return archive


def test_the_sdist_has_all_that_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {f"src_ext/{module}.pyx" for module in MODULES}
    assert names >= SHIPPED | SOURCES
    assert names >= {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md"}
    assert not {name for name in names if name.endswith((".c", ".so", ".pyc"))}


def test_every_native_module_is_built(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        built = {name for name in archive.namelist() if name.endswith(".so")}
    assert {name.removeprefix("sse_fast/_native/").partition(".")[0] for name in built} == MODULES


def test_every_native_module_makes_its_promise_to_python() -> None:
    assert {path.relative_to(NATIVE).with_suffix("").as_posix() for path in NATIVE.rglob("*.pyi")} == MODULES


def test_the_wheel_has_the_package_whole_and_no_sources_of_the_native_modules(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= SHIPPED | SOURCES
    assert not {name for name in names if name.endswith((".c", ".pyx", ".pyc"))}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"sse_fast"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata_name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        [entry_points] = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        metadata = archive.read(metadata_name).decode()
        assert "sse-fast = sse_fast.__main__:main" in archive.read(entry_points).decode()
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert f"\nVersion: {PROJECT['version']}\n" in metadata
    assert f"\nRequires-Python: {PROJECT['requires-python']}\n" in metadata


def test_the_wheel_runs_where_the_sources_are_not(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    [site] = (tmp_path / "venv/lib").glob("python*/site-packages")
    # What the package depends on comes from here; the package itself comes from the wheel, and stands before it.
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    run(*pip, cwd=tmp_path)
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    program = (
        "import sse_fast, sse_fast._native.wire.frame as frame, sys\n"
        "from sse_fast import Hub, create_app\nfrom sse_fast.edge import page\n"
        "assert frame.encode('x') == b'data: x\\n\\n'\n"
        "create_app()\n"
        "print(frame.__file__)\n"
    )
    assert run(python, "-c", program, cwd=tmp_path).strip().startswith(str(site))
    assert PROJECT["version"] in run(tmp_path / "venv/bin/sse-fast", "--version", cwd=tmp_path)


def test_an_editable_install_that_only_adds_an_extra_compiles_nothing_again(tmp_path: Path) -> None:
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src_ext/base/queue.pyx"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    shutil.copy2(ROOT / "src_ext/base/system.py", tree / "src_ext/base")
    for name in ("__init__.py", "_native/__init__.py", "_native/base/__init__.py", "_native/base/queue.pxd"):
        (tree / "sse_fast" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "sse_fast" / name, tree / "sse_fast" / name)
    program = f"from setuptools.build_meta import build_editable; build_editable({str(elsewhere)!r})"
    make = (sys.executable, "-c", program)
    run(*make, cwd=tree)
    [module] = (tree / "sse_fast/_native/base").glob("queue.*.so")
    made = module.stat().st_mtime_ns
    run(*make, cwd=tree)
    assert module.stat().st_mtime_ns == made
    (tree / "src_ext/base/queue.pyx").touch()  # what has changed is compiled
    run(*make, cwd=tree)
    assert module.stat().st_mtime_ns > made


def test_type_checkers_find_an_editable_install(tmp_path: Path) -> None:
    """They follow a directory on the path, and no hook of the import system."""
    tree, elsewhere = tmp_path / "tree", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(ROOT / "sse_fast", tree / "sse_fast", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    (tree / "setup.py").write_text("from setuptools import setup\nsetup()\n")  # without compiling anything
    make = f"from setuptools.build_meta import build_editable; build_editable({str(elsewhere)!r})"
    run(sys.executable, "-c", make, cwd=tree)
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    [site] = (tmp_path / "venv/lib").glob("python*/site-packages")
    [built] = elsewhere.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)

    (elsewhere / "lines.py").write_text("from sse_fast import Event, encode\n\nframe: int = encode(Event(1).data)\n")
    mypy = (sys.executable, "-m", "mypy", "--python-executable", tmp_path / "venv/bin/python", "lines.py")
    done = subprocess.run(mypy, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert 'expression has type "bytes", variable has type "int"' in done.stdout, done.stdout + done.stderr
    assert "Found 1 error in 1 file" in done.stdout


def test_the_wheel_that_was_installed_streams_a_first_event(sdist: Path) -> None:
    """What is tried of each wheel of a release is tried here of this build."""
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/scripts/first-stream") for name in archive.getnames())
    told = run(sys.executable, ROOT / "scripts" / "first-stream", cwd=ROOT)
    assert re.match(r"first event after \d+\.\d\d s, Python 3\.", told)


def test_a_release_has_a_wheel_for_every_python_that_is_named() -> None:
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line}
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]["build"]
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    for python in named:
        assert f"cp{python.replace('.', '')}-*" in built
        assert f"cp{python.replace('.', '')}{{0}}" in workflow
        assert python in (ROOT / "scripts" / "dist").read_text()


def test_the_version_is_one() -> None:
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"] == version("sse-fast")


def test_the_commands_of_the_documentation_are_there() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][\w-]*)", "\n".join(code_of(TEXT))))
    assert {"serve", "test"} <= named <= targets


@pytest.mark.parametrize("script", ["aarch64", "dist", "portable", "sanitized"])
def test_the_help_of_a_script_is_the_comment_at_its_head_and_nothing_is_done(script: str, tmp_path: Path) -> None:
    # In a directory without anything to build, so that whatever else it did would fail.
    alone = tmp_path / "scripts" / script
    alone.parent.mkdir()
    shutil.copy(ROOT / "scripts" / script, alone)
    told = run(alone, "--help", cwd=tmp_path)
    assert told.startswith("Makes dist/" if script == "dist" else "Builds ")
    assert f"  scripts/{script} " in told
    assert "set -e" not in told


def code_of(markdown: str) -> list[str]:
    """Its code: fenced blocks and what stands between backticks."""
    fenced = re.findall(r"^```.*?^```", markdown, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"`[^`\n]+`", markdown)
