"""The compilers that generated clients meet: tsc, mypy and elm."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from conftest import missing, program

NODE = Path(__file__).parent / "node" / "node_modules"
PACKAGES = Path(__file__).parent / "elm" / "packages" / "elm"
STRICTEST = (
    *("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noPropertyAccessFromIndexSignature"),
    *("--noImplicitOverride", "--noFallthroughCasesInSwitch", "--isolatedModules", "--noEmitOnError"),
    *("--noUnusedLocals", "--noUnusedParameters", "--erasableSyntaxOnly"),
    *("--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler", "--lib", "es2022,dom,dom.iterable"),
)


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end, and have it succeed; its output."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tsc(directory: Path, *files: str, output: Path) -> None:
    """Check TypeScript as strictly as can be, and write it as JavaScript."""
    compiler = NODE / "typescript" / "bin" / "tsc"
    if not compiler.is_file():
        missing("tests/node/node_modules/typescript (npm install --no-package-lock in tests/node)")
    run(program("node"), compiler, *STRICTEST, "--outDir", output, *files, cwd=directory)


def tsc_for_node(directory: Path, *files: str) -> None:
    """Check TypeScript with what Node has in the place of a browser's types."""
    types = NODE / "@types"
    if not (types / "node").is_dir():
        missing("tests/node/node_modules/@types/node (npm install --no-package-lock in tests/node)")
    compiler, lib = NODE / "typescript" / "bin" / "tsc", ("--lib", "es2022", "--types", "node", "--typeRoots", types)
    of_node = ("--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", *lib)
    run(program("node"), compiler, "--strict", "--noEmit", *of_node, *files, cwd=directory)


def mypy(directory: Path, *files: str) -> str:
    """Check Python as strictly as can be; what it says."""
    return run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--warn-unreachable", "--cache-dir"),
        *(directory / ".cache", *files),
        cwd=directory,
    )


def elm(directory: Path, main: str, output: Path) -> None:
    """Compile an Elm app whose modules are in `directory`/src. The compiler finds its packages where it would have put
    them: nothing is fetched."""
    compiler = NODE / "@lydell" / "elm_linux_x64" / "elm"
    if not compiler.is_file():
        missing("tests/node/node_modules/@lydell/elm_linux_x64 (npm install --no-package-lock in tests/node)")
    home = directory / "elm-home"
    versions = {package.name: next(package.iterdir()).name for package in PACKAGES.iterdir()}
    cache = home / "0.19.1" / "packages"
    (cache / "elm").mkdir(parents=True)
    for name, version in versions.items():
        (cache / "elm" / name).mkdir()
        run("cp", "-r", PACKAGES / name / version, cache / "elm" / name / version, cwd=directory)
    (cache / "registry.dat").write_bytes(registry(versions))
    dependencies = {"direct": {f"elm/{name}": version for name, version in versions.items()}, "indirect": {}}
    (directory / "elm.json").write_text(
        json.dumps(
            {
                "type": "application",
                "source-directories": ["src"],
                "elm-version": "0.19.1",
                "dependencies": dependencies,
                "test-dependencies": {"direct": {}, "indirect": {}},
            }
        )
    )
    environment = {**os.environ, "ELM_HOME": str(home)}
    run(compiler, "make", f"src/{main}", f"--output={output}", cwd=directory, environment=environment)


def registry(versions: dict[str, str]) -> bytes:
    """What the compiler remembers of its package site: the packages there are, and their newest versions."""
    written = struct.pack(">qq", len(versions), len(versions))
    for name, version in sorted(versions.items()):
        author, package = b"elm", name.encode()
        written += bytes([len(author)]) + author + bytes([len(package)]) + package
        written += bytes(int(part) for part in version.split(".")) + struct.pack(">q", 0)
    return written
