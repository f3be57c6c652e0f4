"""MERCURE.md: it has every MUST of Mercure's specification, in both dialects, and each test that it names is there."""

import os
import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from test_features import functions_of

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "MERCURE.md").read_text()
NOT_THE_HUBS = {f"the {who}'s" for who in ("publisher", "subscriber", "issuer", "deployment", "registry")}
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
# How many MUST and MUST NOT stand in each section of draft-dunglas-mercure-08, and of 07 as of release 0.24.2.
MUSTS = {
    "08": {
        "Terminology": 3,
        "Subscription": 21,
        "Matcher Types": 1,
        "Exact Matching": 4,
        "URL Pattern": 8,
        "Summary of Matcher Types": 2,
        "Publication": 28,
        "Authorization": 7,
        "Presenting the Access Token": 5,
        "Authorization HTTP Header": 1,
        "Cookie": 2,
        "Error Responses": 6,
        "Token Validation": 19,
        "Authorization Details": 7,
        "Publishers": 4,
        "Subscribers": 5,
        "Topic Matcher List": 5,
        "Payloads": 3,
        "Reconnection, State Reconciliation, and Event Sourcing": 11,
        "Subscription Events": 14,
        "Subscription API": 11,
        "Hub Discovery": 7,
        "Protected Resource Metadata": 3,
        "Topic Discovery": 1,
        "Encryption": 1,
        "Mercure Topic Matcher Types Registry": 2,
        "Mercure Actions Registry": 1,
        "Security Considerations": 6,
        "Server-Sent Events Field Injection": 1,
        "Reserved Hub Namespace": 1,
        "Private Update Audience": 1,
    },
    "07": {
        "Discovery": 7,
        "Subscription": 5,
        "Publication": 8,
        "Authorization": 4,
        "Authorization HTTP Header": 1,
        "URI Query Parameter": 1,
        "Publishers": 8,
        "Subscribers": 5,
        "Reconnection, State Reconciliation and Event Sourcing": 7,
        "Subscription Events": 6,
        "Subscription API": 9,
        "Encryption": 1,
        "Security Considerations": 5,
    },
}


def rows() -> dict[str, dict[str, list[list[str]]]]:
    """Of each draft, of each section."""
    found: dict[str, dict[str, list[list[str]]]] = {}
    for line in TABLE.splitlines():
        if heading := re.fullmatch(r"## Draft (\d\d)\b.*", line):
            draft = found[heading[1]] = defaultdict(list)
        elif line.startswith("### "):
            section = draft[line.removeprefix("### ")]
        elif re.match(r"\| \d", line):
            section.append([part.strip() for part in line.strip("|").split(" | ")])
    return found


@pytest.mark.parametrize("draft", MUSTS)
def test_every_must_has_its_place(draft: str) -> None:
    numbers = {}
    for section, lines in rows()[draft].items():
        ends = [[int(end) for end in (*line[0].split("–"), line[0].split("–")[-1])[:2]] for line in lines]
        assert [first for first, _ in ends] == [1, *(last + 1 for _, last in ends[:-1])], section
        numbers[section] = ends[-1][1]
    assert numbers == MUSTS[draft]


def test_each_has_a_test_that_is_there_or_says_why_not() -> None:
    lines = [line for draft in rows().values() for section in draft.values() for line in section]
    there = cache(functions_of)
    for number, what, shown in lines:
        if found := TEST.fullmatch(shown):
            assert found[2] in there(found[1]), f"{number} {what}: {shown}"
        else:
            assert shown in NOT_THE_HUBS or shown.startswith(("not shown yet", "does not apply: ", "departs: ")), shown


def test_the_numbers_are_those_of_the_specification() -> None:
    checkout = os.environ.get("SSE_FAST_MERCURE_CHECKOUT")
    if not checkout:
        pytest.skip("SSE_FAST_MERCURE_CHECKOUT gives no checkout of dunglas/mercure")
    for draft, revision in (("08", "HEAD"), ("07", "v0.24.2")):
        command = ["git", "-C", checkout, "show", f"{revision}:spec/mercure.md"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: defaultdict[str, int] = defaultdict(int)
        for part in re.split(r"^#+ ", text.partition("# Acknowledgements")[0], flags=re.MULTILINE):
            heading = re.sub(r" *\{#.*", "", part.partition("\n")[0])
            found[heading] += len(re.findall(r"\*\*MUST(?:\s+NOT)?\*\*", part))
        found["Terminology"] -= 2  # where the words are explained
        assert {name: count for name, count in found.items() if count} == MUSTS[draft]
