"""FEATURES.md: each feature that it names has a test, and that test is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FEATURES = (ROOT / "FEATURES.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in FEATURES.splitlines() if re.match(r"\| [^|]", line)]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def functions_of(file: str) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, functions)}


def test_every_feature_says_how_it_is_done_and_by_which_test_it_is_shown() -> None:
    assert len(ROWS) > 80
    wrong = [row[0] for row in ROWS if len(row) != 3 or not row[1].strip() or not TEST.fullmatch(row[2].strip())]
    assert not wrong


def test_every_test_that_is_named_is_there() -> None:
    named = TEST.findall(FEATURES)
    there = {file: functions_of(file) for file in {file for file, _ in named} if (ROOT / file).is_file()}
    assert [f"{file}::{name}" for file, name in named if name not in there.get(file, ())] == []


def test_every_file_that_is_linked_is_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", FEATURES)
    assert [path for path in linked if not (ROOT / path).exists()] == []
