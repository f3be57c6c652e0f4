"""The browser client by itself, under Node: its parser against the vectors that every reader of the package passes, its
laws against servers that follow a script (node/browser-client.mjs), tabs that come and die at random
(node/browser-tabs.mjs; SSE_FAST_TABS_SECONDS says how long), tabs of several users (node/browser-users.mjs); and its
types."""

import json
import os
import random
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import missing, program
from event_streams import VECTORS

from sse_fast.js import CLIENT, OWN_ADDRESS, TYPES, source

NODE = Path(__file__).parent / "node"
ROOT = NODE.parent.parent
MODULE = ROOT / "sse_fast/js/sse-fast.js"
PARSE = """
import { EventStreamParser } from "%s";
let given = "";
for await (const piece of process.stdin) given += piece;
const parsed = JSON.parse(given).map((pieces) => {
  const events = [];
  const parser = new EventStreamParser(({ data, type, id }) => events.push([data, type, id]));
  for (const piece of pieces) parser.feed(Buffer.from(piece, "base64"));
  return { events, retry: parser.retry ?? null, last: parser.lastEventId };
});
process.stdout.write(JSON.stringify(parsed));
"""


SECONDS = float(os.environ.get("SSE_FAST_TABS_SECONDS", "1"))
STRICT = "--noEmit --strict --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom,dom.iterable"
Node = subprocess.Popen[str]


def node(*arguments: str | Path) -> Node:
    piped = subprocess.PIPE
    return subprocess.Popen([program("node"), *arguments], stdin=piped, stdout=piped, stderr=piped, text=True)


def said(process: Node, given: str = "") -> str:
    """By a program that ends well."""
    told, complaints = process.communicate(given, timeout=SECONDS + 60)
    assert process.returncode == 0, told + complaints
    return told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client is made anew."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def begun(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Node]]:
    """What takes its time, all at once; it mostly waits."""
    seed = int(os.environ.get("SSE_FAST_LEDGER_SEED", random.randrange(2**31)))
    print(f"SSE_FAST_LEDGER_SEED={seed}")
    begun = {
        "laws": node(NODE / "browser-client.mjs"),
        "tabs": node(NODE / "browser-tabs.mjs", f"{SECONDS}", f"{seed}"),
        "users": node(NODE / "browser-users.mjs"),
    }
    if (compiler := NODE / "node_modules/typescript/bin/tsc").exists():
        page = tmp_path_factory.mktemp("types") / "page.mts"
        page.write_text(USED % MODULE)
        begun["types"] = node(compiler, *STRICT.split(), page)
        begun["made"] = subprocess.Popen(
            [ROOT / "scripts/client", made],
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    yield begun
    for process in begun.values():
        process.kill()
        process.communicate()


def test_the_parser_reads_every_stream_as_the_standard_does_wherever_it_is_cut(rng: random.Random) -> None:
    def cuts(stream: bytes) -> list[list[bytes]]:
        places = sorted(rng.sample(range(len(stream) + 1), min(len(stream) + 1, 7)))
        parts = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
        return [[stream], [bytes([each]) for each in stream], parts]

    asked = [(vector, pieces) for vector in VECTORS for pieces in cuts(vector.stream)]
    given = json.dumps([[b64encode(piece).decode() for piece in pieces] for _, pieces in asked])
    answers = json.loads(said(node("--input-type=module", "-e", PARSE % MODULE.as_uri()), given))
    for (vector, pieces), answer in zip(asked, answers, strict=True):
        events = [list(event) for event in vector.events]
        assert answer == {"events": events, "retry": vector.retry, "last": vector.last_event_id}, (vector.name, pieces)


def test_the_client_keeps_its_laws_against_servers_that_follow_a_script(begun: dict[str, Node]) -> None:
    told: list[dict[str, Any]] = [json.loads(line) for line in said(begun["laws"]).splitlines()]
    broken = [f"{each['law']}: {each['failed']}" for each in told if "failed" in each]
    assert not broken, "\n\n".join(broken)
    assert len(told) > 30


def test_tabs_that_share_a_stream_keep_whole_ledgers_whoever_dies_and_whatever_the_server_forgets(
    begun: dict[str, Node],
) -> None:
    assert json.loads(said(begun["tabs"]))["event"] > 0


def test_tabs_share_a_stream_with_those_of_the_same_user_alone_whoever_becomes_another_one(
    begun: dict[str, Node],
) -> None:
    said(begun["users"])


def test_the_client_loads_nothing_and_reaches_for_no_page() -> None:
    text = CLIENT.decode()
    assert not re.findall(r"^\s*import\b|\brequire\(|\bimport\(", text, re.M)
    assert CLIENT.decode().count(OWN_ADDRESS) == source().count(OWN_ADDRESS) == 1
    assert not re.findall(r"innerHTML|document\.(?:write|cookie)|\beval\b|new Function|localStorage|https?://", text)


USED = """
import { connect, EventStreamParser, StreamError, type Connection, type StreamEvent, type StreamState } from "%s";

const plain: Connection = connect("/sse/a");
type Comment = { type: "CommentAdded"; text: string } | { type: "CommentRemoved" };
const comments: Connection<Comment> = connect<Comment>({ channels: ["item:7"], history: 3, envelope: true }, {
  decode: ({ type, data }: StreamEvent) => ({ ...JSON.parse(data), type }) as Comment,
  onEvent: (comment, raw) => { if (comment.type === "CommentAdded") comment.text.concat(raw.id); },
  onGap: ({ after, until, positions }) => [after?.length, until, positions ?? 0],
  onState: (state: StreamState) => {
    if (state.name === "waiting") (state.until ?? 0).toFixed();
    else if (state.name === "open") state.leftOut.join();
  },
  onError: (error) => { if (error instanceof StreamError) error.status?.toFixed(); },
  getToken: async ({ again }) => (again ? "t" : null),
  headers: () => ({ "X-Page": "1" }), shareAcrossTabs: "ann", signal: new AbortController().signal,
});
for await (const comment of comments) comment.type satisfies string;
for await (const event of plain) event.data.concat(plain.lastEventId);
const off: () => void = comments.on("CommentAdded", (comment) => comment.type);
new EventStreamParser((event) => event.tooLong, { most: 10 }).feed(new Uint8Array());
// @ts-expect-error: nothing is decoded
connect<Comment>("/sse/a", {});
// @ts-expect-error: no such thing
plain.open(); off();
"""


def test_the_types_are_as_strict_as_can_be(begun: dict[str, Node]) -> None:
    if "types" not in begun:
        missing("typescript")
    said(begun["types"])


def test_the_module_and_its_types_are_what_their_parts_make(begun: dict[str, Node], made: Path) -> None:
    if "made" not in begun:
        missing("typescript")
    said(begun["made"])
    assert (made / "sse-fast.js").read_bytes() == CLIENT, "scripts/client makes it anew"
    assert (made / "sse-fast.d.ts").read_bytes() == TYPES
