"""Event streams and what they say (WHATWG HTML, sections 9.2.5 and 9.2.6): what every reader of the package must find.

The kinds are those of the standard's own text, of Web Platform Tests (`eventsource/`), and of what other people's
parsers are tested with, as eventsource-parser and httpx-sse.
"""

from dataclasses import dataclass
from itertools import product

Said = tuple[str, str, str]
"""Data, type and last event id of one event."""

LF, CR, CRLF = "\n", "\r", "\r\n"
ENDS = {"LF": LF, "CR": CR, "CRLF": CRLF}
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Vector:
    name: str
    stream: bytes
    events: tuple[Said, ...]
    retry: int | None
    last_event_id: str


VECTORS: list[Vector] = []


def says(
    name: str, stream: str | bytes, *events: str | Said, retry: int | None = None, last: str | None = None
) -> None:
    """One more vector. An event that is a string is a message without an id; `last`: the id at the end, where it is
    not the last event's."""
    raw = stream if isinstance(stream, bytes) else stream.encode()
    said = tuple(event if isinstance(event, tuple) else (event, "message", "") for event in events)
    end = last if last is not None else said[-1][2] if said else ""
    VECTORS.append(Vector(f"{len(VECTORS)} {name}", raw, said, retry, end))


def message(data: str, id: str = "") -> Said:
    return data, "message", id


# ---- the standard's text ---------------------------------------------------------------------------------------------

for kind, end in ENDS.items():

    def lines(text: str, end: str = end) -> str:
        return text.replace("\n", end)

    says(f"three lines of data, {kind}", lines("data: YHOO\ndata: +2\ndata: 10\n\n"), "YHOO\n+2\n10")
    says(
        f"a comment, three blocks, the last unfinished, {kind}",
        lines(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"),
        message("first event", "1"),
        "second event",
    )
    says(
        f"the same with its end, {kind}",
        lines(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
        message("first event", "1"),
        "second event",
        " third event",
    )
    says(f"empty data, two empty lines, one unfinished, {kind}", lines("data\n\ndata\ndata\n\ndata:"), "", "\n")
    says(f"one space is none, {kind}", lines("data:test\n\ndata: test\n\n"), "test", "test")
    says(
        f"types, {kind}",
        lines("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n"),
        ("73857293", "add", ""),
        ("2153", "remove", ""),
        ("113411", "add", ""),
    )
    says(
        f"messages without a type, {kind}",
        lines("data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"),
        "This is the first message.",
        "This is the second message, it\nhas two lines.",
    )
    says(f"keep-alive comments, {kind}", lines(":\n\n:\n\ndata: x\n\n:\n\n"), "x")

# ---- Web Platform Tests ----------------------------------------------------------------------------------------------

X = "x" * 200
says("a feast of comments", f"data:1\r:\0\n:\r\ndata:2\n:{X}\rdata:3\n:data:fail\r:{X}\ndata:4\n\n", "1\n2\n3\n4")
says("data before the last empty line", "retry:1000\ndata:test1\n\nid:test\ndata:test2", "test1", retry=1000)
says("data of nothing", "data:\n\ndata\ndata\n\ndata:test\n\n", "", "\n", "test")
says("an empty type", "event: \ndata:data\n\n", "data")
says("a type", "event:test\ndata:x\n\ndata:x\n\n", ("x", "test", ""), "x")
says("an id", "id:…\ndata:hello\n\ndata:again\n\n", message("hello", "…"), message("again", "…"))
says("an id stays", "id: 1\ndata: 1\n\ndata: 2\n\n", message("1", "1"), message("2", "1"))
says(
    "an id changes and stays",
    "id: 1\ndata: 1\n\nid: 2\ndata: 2\n\ndata: 3\n\n",
    message("1", "1"),
    message("2", "2"),
    message("3", "2"),
)
says("an id resets", "id: 1\ndata: 1\n\nid:\ndata: 2\n\ndata: 3\n\n", message("1", "1"), "2", "3")
says("an id of NULs", b"id: \0\0\ndata:hello\n\n", "hello")
says(
    "names that are none",
    "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
    "\0\n 2\n1\n3\n\n4",
)
says("retry", "retry:3000\ndata:x\n\n", "x", retry=3000)
says("a bogus retry", "retry:3000\nretry:1000x\ndata:x\n\n", "x", retry=3000)
says("an empty retry", "retry\ndata:test\n\n", "test")
says(
    "unknown fields",
    "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
    "test\n\ntest",
)
says("leading space", "data:\ttest\rdata: \ndata:test\n\n", "\ttest\n\ntest")
says("newlines of all kinds", "data:test\r\ndata\ndata:test\r\n\r", "test\n\ntest")
says("a NUL", b"data:\0\n\n", "\0")
says("always UTF-8", "data:ok…\n\n", "ok…")
says("a byte order mark", BOM + b"data:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", "1", "3")
says("two byte order marks", BOM * 2 + b"data:1\n\ndata:2\n\ndata:3\n\n", "2", "3")
says("a name is no prefix", "event:test\ndata:a\n\nevents:no\ndatas:b\nidx:3\n\n", ("a", "test", ""))
says(
    "lines and data",
    "data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
    "msg\nmsg",
    "",
    "end",
)

# ---- line ends -------------------------------------------------------------------------------------------------------

for (a, first), (b, second) in product(ENDS.items(), repeat=2):
    blank = (first, second) != (CR, LF)  # these two are one line end
    says(f"an event ended by {a} {b}", f"data: x{first}{second}", *(["x"] if blank else []))
    says(
        f"two lines, then {a} {b}, then another event",
        f"data: x{second}data: y{first}{second}data: z{first}{first}",
        *(["x\ny", "z"] if blank else ["x\ny\nz"]),
    )
for kind, end in ENDS.items():
    says(f"many blank lines, {kind}", end * 5 + "data: x" + end * 6 + "data: y" + end * 2, "x", "y")
    says(f"only blank lines, {kind}", end * 7)
    says(
        f"all fields, {kind}", end.join(["id: 7", "event: e", "retry: 9", "data: x", "", ""]), ("x", "e", "7"), retry=9
    )
says("CR LF CR LF is two line ends", "data: a\r\n\r\ndata: b\r\n\r\n", "a", "b")
says("LF CR is two line ends", "data: a\n\rdata: b\n\r", "a", "b")
says("CR CR LF is two line ends", "data: a\r\r\ndata: b\r\r\n", "a", "b")
says("CR CR CR is three", "data: a\r\r\rdata: b\r\r\r", "a", "b")
says("CR LF LF CR", "data: a\r\n\n\rdata: b\r\n\n\r", "a", "b")
says("CR LF CR", "data: a\r\n\rdata: b\r\n\r", "a", "b")
says(
    "every line another end",
    "event: e\rid: 1\r\ndata: a\ndata: b\r\r\ndata: c\r\n\n",
    ("a\nb", "e", "1"),
    message("c", "1"),
)
says("an LF alone at the start", "\ndata: x\n\n", "x")
says("a CR alone at the start", "\rdata: x\n\n", "x")
says("a CRLF alone at the start", "\r\ndata: x\n\n", "x")
for name, char in {
    "VT": "\v", "FF": "\f", "NEL": "\x85", "LS": "\u2028", "PS": "\u2029", "FS": "\x1c", "GS": "\x1d", "RS": "\x1e",
}.items():  # fmt: skip
    says(f"{name} is no line end", f"data: a{char}b\n\ndata: c{char}\n\n", f"a{char}b", f"c{char}")

# ---- the byte order mark ---------------------------------------------------------------------------------------------

says("a mark and a comment", BOM + b":x\ndata: 1\n\n", "1")
says("a mark and a blank line", BOM + b"\ndata: 1\n\n", "1")
says("a mark and a CR", BOM + b"\rdata: 1\r\r", "1")
says("a mark and an id", BOM + b"id: 1\ndata: 1\n\n", message("1", "1"))
says("nothing but a mark", BOM)
says("half a mark", BOM[:2] + b"data: 1\n\ndata: 2\n\n", "2")
says("a third of a mark", BOM[:1] + b"data: 1\n\ndata: 2\n\n", "2")
says("a mark after a blank line", b"\n" + BOM + b"data: 1\n\ndata: 2\n\n", "2")
says("a mark after a space", b" " + BOM + b"data: 1\n\ndata: 2\n\n", "2")
says("a mark in data", b"data: " + BOM + b"1\n\n", "\ufeff1")
says("a mark behind data", b"data: 1" + BOM + b"\n\n", "1\ufeff")
says("a mark of another encoding", b"\xff\xfedata: 1\n\ndata: 2\n\n", "2")
says("a mark before an unknown field", BOM + b"foo\ndata: 1\n\n", "1")

# ---- names of fields -------------------------------------------------------------------------------------------------

MEANINGS = {  # what follows a line of the field with the value 7
    "data": (("7\nx", "message", ""), None),
    "event": (("x", "7", ""), None),
    "id": (("x", "message", "7"), None),
    "retry": (("x", "message", ""), 7),
}
for field, (meant, wait) in MEANINGS.items():
    nothing = ("x", "message", "")
    says(f"{field}: with a space", f"{field}: 7\ndata: x\n\n", meant, retry=wait)
    says(f"{field}: without one", f"{field}:7\ndata: x\n\n", meant, retry=wait)
    for name, line in {
        "in capitals": f"{field.upper()}: 7",
        "with a capital": f"{field.capitalize()}: 7",
        "after a space": f" {field}: 7",
        "after a tab": f"\t{field}: 7",
        "before a space": f"{field} : 7",
        "cut short": f"{field[:-1]}: 7",
        "gone on": f"{field}s: 7",
        "twice": f"{field}{field}: 7",
        "with a NUL": f"{field}\0: 7",
        "with an equals sign": f"{field}=7",
        "in quotes": f'"{field}": 7',
        "after a colon": f":{field}: 7",
    }.items():
        says(f"{field} {name} is not meant", f"{line}\ndata: x\n\n", nothing)
says("two spaces, of which one stays", "data:  a\nevent:  b\nid:  c\n\n", (" a", " b", " c"))
says("a tab is not the space", "data:\ta\nevent:\tb\nid:\tc\n\n", ("\ta", "\tb", "\tc"))
says("spaces behind a value stay", "data: a \nevent: b \nid: c \n\n", ("a ", "b ", "c "))
says("a no-break space is not the space", "data:\u00a0a\n\n", "\u00a0a")
says("colons in values", "data: a:b: c\nevent::e:\nid:::\n\n", ("a:b: c", ":e:", "::"))
says("a colon alone is a comment", ":\n::\n:::\ndata: x\n\n", "x")
says("a space alone is an unknown field", " \ndata: x\n \n\n", "x")
says("JSON without a field is nothing", '{"error": {"message": "no"}}\n\ndata: x\n\n', "x")
says("HTML is nothing", "<!doctype html>\n<title>502</title>\n\n<p>data: x</p>\n\n")

# ---- data ------------------------------------------------------------------------------------------------------------

says("data without a colon", "data\n\n", "")
says("data of a space", "data: \n\n", "")
says("data of two spaces", "data:  \n\n", " ")
says("an empty line first", "data:\ndata: x\n\n", "\nx")
says("an empty line last", "data: x\ndata:\n\n", "x\n")
says("an empty line between", "data: a\ndata\ndata: b\n\n", "a\n\nb")
says("five empty lines", "data\ndata:\ndata: \ndata\ndata:\n\n", "\n\n\n\n")
says("lines of data between others", "data: a\nid: 1\ndata: b\nevent: e\n:c\ndata: d\n\n", ("a\nb\nd", "e", "1"))
says("data that looks like fields", "data: data: x\ndata: id: 1\ndata: :\n\n", "data: x\nid: 1\n:")
says("JSON", 'data: {"a": [1, 2],\ndata:  "b": "c: d"}\n\n', '{"a": [1, 2],\n "b": "c: d"}')
says("the end of a language model's stream", 'data: {"delta":"Hi"}\n\ndata: [DONE]\n\n', '{"delta":"Hi"}', "[DONE]")
says(
    "a language model's types",
    'event: message_start\ndata: {"type": "message_start"}\n\nevent: ping\ndata: {"type": "ping"}\n\n',
    ('{"type": "message_start"}', "message_start", ""),
    ('{"type": "ping"}', "ping", ""),
)
says(
    "markup over lines",
    "event: patch\ndata: elements <div>\ndata: elements </div>\n\n",
    ("elements <div>\nelements </div>", "patch", ""),
)
says("a long line", f"data: {X * 2}\n\n", X * 2)
says("many lines", "data: a\n" * 40 + "\n", "\n".join("a" * 40))
says("a hundred events", "".join(f"data:{n}\n\n" for n in range(100)), *map(str, range(100)))
says("controls", "data: \x01\x07\x1b[2J\x7f\n\n", "\x01\x07\x1b[2J\x7f")

# ---- types -----------------------------------------------------------------------------------------------------------

says("the last type counts", "event: a\nevent: b\ndata: x\n\n", ("x", "b", ""))
says("an empty type takes the one before back", "event: a\nevent\ndata: x\n\n", "x")
says("a type behind the data", "data: x\nevent: a\n\n", ("x", "a", ""))
says("a type is of one event", "event: a\ndata: x\n\ndata: y\n\n", ("x", "a", ""), "y")
says("a type without data is gone", "event: a\n\ndata: x\n\n", "x")
says("a type and an empty data", "event: a\ndata\n\n", ("", "a", ""))
says("a type that is message", "event: message\ndata: x\n\n", "x")
says("a type of other letters", "event: Größe ☃\ndata: x\n\n", ("x", "Größe ☃", ""))
says("a type with a NUL", b"event: a\0b\ndata: x\n\n", ("x", "a\0b", ""))

# ---- ids -------------------------------------------------------------------------------------------------------------

says("an id without data counts", "id: 1\n\ndata: x\n\n", message("x", "1"))
says("an id without data at the end", "data: x\n\nid: 1\n\n", "x", last="1")
says("an id alone", "id: 1\n\n", last="1")
says("an id that never ended", "id: 1\n")
says("an id of an event that never ended", "id: 1\ndata: x\n\nid: 2\ndata: y\n", message("x", "1"))
says("the last id counts", "id: 1\nid: 2\ndata: x\n\n", message("x", "2"))
says("an id behind the data", "data: x\nid: 1\n\n", message("x", "1"))
says("an id without a colon resets", "id: 1\ndata: x\n\nid\ndata: y\n\n", message("x", "1"), "y")
says("an id of a space resets", "id: 1\ndata: x\n\nid: \ndata: y\n\n", message("x", "1"), "y")
says("an empty id without data resets", "id: 1\ndata: x\n\nid:\n\ndata: y\n\n", message("x", "1"), "y")
says("an empty id at the end", "id: 1\ndata: x\n\nid:\n\n", message("x", "1"), last="")
says("an empty id that never ended", "id: 1\ndata: x\n\nid:\n", message("x", "1"))
says("an id with a NUL keeps the one before", b"id: 1\nid: a\0b\ndata: x\n\n", message("x", "1"))
says("a NUL first", b"id: 1\ndata: x\n\nid: \0\ndata: y\n\n", message("x", "1"), message("y", "1"))
says("a NUL last", b"id: 1\0\nid: 2\ndata: x\n\n", message("x", "2"))
says("an id of other letters", "id: é☃😀\ndata: x\n\n", message("x", "é☃😀"))
says("an id with spaces", "id: a b  c\ndata: x\n\n", message("x", "a b  c"))
says("an id of 64 bytes", f"id: {'i' * 64}\ndata: x\n\n", message("x", "i" * 64))
says("ids that fall", "id: 2\ndata: x\n\nid: 1\ndata: y\n\n", message("x", "2"), message("y", "1"))

# ---- retry -----------------------------------------------------------------------------------------------------------

says("retry counts at its line", "retry: 5\n", retry=5)
says("retry without a line end", "retry: 5")
says("retry without data", "retry: 5\n\ndata: x\n\n", "x", retry=5)
says("the last retry counts", "retry: 5\nretry: 6\n\n", retry=6)
says("retry of nought", "retry: 0\n\n", retry=0)
says("retry with noughts before", "retry: 00070\n\n", retry=70)
says("retry of many digits", "retry: 123456789012\n\n", retry=123456789012)
says("retry of many noughts", f"retry: {'0' * 30}8\n\n", retry=8)
for name, value in {
    "a plus": "+7", "a minus": "-7", "a dot": "1.5", "an exponent": "1e3", "hexadecimal": "0x10", "a unit": "5s",
    "a space behind": "7 ", "two spaces before": "  7", "a tab": "\t7", "an underscore": "1_000", "a comma": "1,000",
    "Arabic digits": "٣٠", "fullwidth digits": "３０", "superscripts": "³", "Devanagari digits": "३", "a NUL": "7\0",
    "letters": "soon", "infinity": "inf", "nothing": "", "a no-break space": "\u00a07", "a mark": "\ufeff7",
}.items():  # fmt: skip
    says(
        f"retry with {name} is ignored", f"retry: 5\nretry:{' ' * (name != 'a tab')}{value}\ndata: x\n\n", "x", retry=5
    )

# ---- comments --------------------------------------------------------------------------------------------------------

says("comments alone", ": a\n:b\n:\n\n: c\n\n")
says("a comment within an event", "data: a\n: not this\ndata: b\n\n", "a\nb")
says("a comment is no blank line", "data: a\n:\n", last="")
says("heartbeats without blank lines", ":\n:\n:\ndata: a\n\n:\n:\ndata: b\n\n:\n", "a", "b")
says("a long comment", f":{X}\n\ndata: x\n\n", "x")
says("a comment of other letters", ": ♥ é\n\ndata: x\n\n", "x")
says("a comment that is no UTF-8", b": \xff\xfe\n\ndata: x\n\n", "x")
says("a comment that never ends", f"data: x\n\n:{X}", "x")
says("a comment before all fields", ":a\nid: 1\n:b\nevent: e\n:c\ndata: x\n:d\n\n", ("x", "e", "1"))

# ---- the stream's end ------------------------------------------------------------------------------------------------

says("nothing", "")
says("a line that never ended", "data: x")
says("an event that never ended", "data: x\n")
says("an event that never ended, CR", "data: x\r")
says("an event that never ended, CRLF", "data: x\r\n")
says("an event that ended with the stream, CR", "data: x\r\r", "x")
says("an event that ended with the stream, CRLF and CR", "data: x\r\n\r", "x")
says("an end in the middle of a letter", "data: x\n\ndata: ☃".encode()[:-1], "x")
says("an end in the middle of a name", "data: x\n\nda", "x")
says("an end behind a colon", "data: x\n\ndata:", "x")
says("an end behind the type", "data: x\n\nevent: e\ndata: y", "x")

# ---- UTF-8 -----------------------------------------------------------------------------------------------------------

for name, letter in {"two": "é", "three": "☃", "four": "😀"}.items():
    says(f"letters of {name} bytes", f"data: {letter}{letter}\nevent: {letter}\n\n", (letter * 2, letter, ""))
says("letters joined", "data: 👩‍👩‍👧 é\n\n", "👩‍👩‍👧 é")
says("many letters", "data: 我現在都看實況不玩遊戲\n\n", "我現在都看實況不玩遊戲")
for name, raw, shown in (
    ("a byte that is none", b"a\xffb", "a\ufffdb"),
    ("a byte that goes on with nothing", b"a\x80b", "a\ufffdb"),
    ("a letter cut short", b"a\xe2\x98b", "a\ufffdb"),
    ("a letter cut short at the line's end", b"a\xe2\x98", "a\ufffd"),
    ("four bytes cut short", b"\xf0\x9f\x98!", "\ufffd!"),
    ("an overlong slash", b"\xc0\xaf", "\ufffd\ufffd"),
    ("an overlong NUL", b"\xc0\x80", "\ufffd\ufffd"),
    ("half a surrogate pair", b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ("beyond Unicode", b"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"),
    ("windows-1252", b"caf\xe9 \x80", "caf\ufffd \ufffd"),
    ("two beginnings", b"\xe2\xe2\x98\x83", "\ufffd☃"),
):
    says(f"{name} in data", b"data: " + raw + b"\n\n", shown)
says("a byte that is none in an id and a type", b"id: \xff\nevent: \xfe\ndata: x\n\n", ("x", "\ufffd", "\ufffd"))
says("a letter cut by a line end", b"data: \xe2\ndata: \x98\x83\n\n", "\ufffd\n\ufffd\ufffd")

assert len({vector.stream for vector in VECTORS}) >= 220, len({vector.stream for vector in VECTORS})

# ---- the head --------------------------------------------------------------------------------------------------------

EVENT_STREAMS = (
    "text/event-stream",
    "TEXT/Event-Stream",
    "Text/EVENT-STREAM; Charset=UTF-8",
    "text/event-stream;charset=utf-8",
    "text/event-stream ; charset=utf-8",
    "text/event-stream; charset=windows-1252",
    "text/event-stream;",
    "text/event-stream; a=b; c",
    "text/event-stream;;",
    "\ttext/event-stream\t",
)
OTHERS = (
    "text/event-stream-foobar",
    "text/event-streams",
    "text/event-stream+json",
    "text/event-strea",
    "text/event",
    "text/plain",
    "text/html; charset=text/event-stream",
    "application/json",
    "x-text/event-stream",
    "text/x-bogus",
    "text / event-stream",
    '"text/event-stream"',
    "",
)
