"""Heads that two parsers could read differently, and all cases; see `ambiguity`."""

from ambiguity import HEAD_MOST, PLAIN, POST, SECOND, Case, Meant, ends, get, means, post, refused, with_fields
from ambiguous_bodies import CHUNKED, CHUNKS, CL, CODINGS, LENGTHS, TE, UNKNOWN_CODINGS

# ---- the line of a request (3) ---------------------------------------------------------------------------------------

REQUEST_LINES = [
    means("plain", get()),
    means("an empty line before", b"\r\n" + get()),
    means("two empty lines before", b"\r\n\r\n" + get()),
    refused("a flood of empty lines", b"\r\n" * 200 + get()),
    refused("a bare LF before", b"\n" + get()),
    refused("a bare CR before", b"\r" + get()),
    refused("a space before the method", b" " + get()),
    refused("NUL before the method", b"\0" + get()),
    refused("two spaces behind the method", b"GET  /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("two spaces before the version", b"GET /app  HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a space behind the version", b"GET /app HTTP/1.1 \r\nHost: x\r\n\r\n"),
    refused("a tab behind the version", b"GET /app HTTP/1.1\t\r\nHost: x\r\n\r\n"),
    refused("a tab behind the method", b"GET\t/app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a tab before the version", b"GET /app\tHTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("vertical tab for a space", b"GET\x0b/app\x0bHTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a space within the target", b"GET /app /b HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a tab within the target", b"GET /app\t/b HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("two versions", b"GET /app HTTP/1.1 HTTP/1.0\r\nHost: x\r\n\r\n"),
    refused("a bare LF behind the line", b"GET /app HTTP/1.1\nHost: x\r\n\r\n"),
    refused("a bare CR behind the line", b"GET /app HTTP/1.1\rHost: x\r\n\r\n"),
    refused("two CR behind the line", b"GET /app HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    refused("HTTP/0.9", b"GET /app\r\n\r\n", 505),
    refused("HTTP/0.9 with its number", get(version=b"HTTP/0.9"), 505),
    refused("HTTP/1", get(version=b"HTTP/1")),
    refused("HTTP/1.", get(version=b"HTTP/1.")),
    refused("HTTP/1.2", get(version=b"HTTP/1.2")),
    refused("HTTP/1.10", get(version=b"HTTP/1.10")),
    refused("HTTP/01.1", get(version=b"HTTP/01.1")),
    refused("HTTP/2.0", get(version=b"HTTP/2.0"), 505),
    refused("HTTP/3.0", get(version=b"HTTP/3.0")),
    refused("http/1.1", get(version=b"http/1.1")),
    refused("HTTP /1.1", get(version=b"HTTP /1.1")),
    refused("HTTPS/1.1", get(version=b"HTTPS/1.1")),
    refused("RTSP/1.0", get(version=b"RTSP/1.0")),
    refused("OPTIONS by RTSP", b"OPTIONS /app RTSP/1.0\r\nHost: x\r\n\r\n"),
    refused("a method of RTSP", b"DESCRIBE /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("ICE/1.0", b"SOURCE /app ICE/1.0\r\nHost: x\r\n\r\n"),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("lower case method", b"get /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("mixed case method", b"Get /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a method that is no token", b"G(T /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("no method", b" /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a method nobody knows", b"FETCH /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("CONNECT", b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"),
    refused("CONNECT of a path", b"CONNECT /app HTTP/1.1\r\nHost: x\r\n\r\n"),
    refused("a hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n"),
    refused("a line of the PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n" + get()),
    refused("a status line", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
]

# ---- the target (3.2) ------------------------------------------------------------------------------------------------

TARGETS = [
    means("absolute form", get(target=b"http://x/app")),
    means("absolute form, its host in capitals", get(target=b"http://X/app")),
    means("absolute form, its scheme in capitals", get(target=b"HTTP://x/app")),
    means("absolute form with a port", get(target=b"http://x:81/app", host=b"Host: x:81")),
    means("absolute form without a path", get(target=b"http://x"), Meant("GET", b"/")),
    means("absolute form, a query without a path", get(target=b"http://x?a=1"), Meant("GET", b"/?a=1")),
    refused("absolute form of another host", get(target=b"http://y/app")),
    refused("absolute form of another port", get(target=b"http://x:81/app")),
    refused("absolute form without a Host", get(target=b"http://x/app", host=b"")),
    refused("absolute form with a user", get(target=b"http://u@x/app")),
    refused("absolute form with a user and a password", get(target=b"http://u:p@x/app", host=b"Host: u:p@x")),
    refused("absolute form, the user is the host", get(target=b"http://x@y/app")),
    refused("absolute form of another scheme", get(target=b"ftp://x/app")),
    refused("absolute form without an authority", get(target=b"http:///app")),
    refused("absolute form with one slash", get(target=b"http:/app")),
    refused("absolute form with a backslash", get(target=b"http:\\\\x\\app")),
    refused("absolute form, another host behind a backslash", get(target=b"http://x\\@y/app")),
    refused("absolute form with a fragment for a path", get(target=b"http://x#/app")),
    means("two slashes", get(target=b"//x/app"), Meant("GET", b"//x/app")),
    means("a target that has an address in it", get(target=b"/app?to=http://y/"), Meant("GET", b"/app?to=http://y/")),
    means("dots are the app's", get(target=b"/app/../app?x"), Meant("GET", b"/app/../app?x")),
    means("escapes stay as they are", get(target=b"/app/%2e%2E/%00%zz"), Meant("GET", b"/app/%2e%2E/%00%zz")),
    refused("a fragment", get(target=b"/app#x")),
    refused("a fragment that is a path", get(target=b"/app#/../publish/a")),
    refused("a query alone", get(target=b"?a=1")),
    refused("a name alone", get(target=b"app")),
    refused("authority form", get(target=b"x:80", host=b"Host: x:80")),
    refused("an asterisk for a GET", get(target=b"*")),
    means("an asterisk for OPTIONS", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Meant("OPTIONS", b"*")),
    refused("8-bit bytes in the target", get(target=b"/app/\xc3\xa9")),
    refused("NUL in the target", get(target=b"/app\0")),
    refused("a control character in the target", get(target=b"/app\x01")),
    refused("DEL in the target", get(target=b"/app\x7f")),
    refused("CR in the target", get(target=b"/app\r/b")),
    refused("an escape character of terminals in the target", get(target=b"/app\x1b[2J")),
]

# ---- Host (3.2) ------------------------------------------------------------------------------------------------------

HOSTS = [
    refused("no Host", get(host=b"")),
    refused("two Hosts", get(b"Host: y")),
    refused("the same Host twice", get(b"Host: x")),
    refused("two Hosts in different case", get(b"hOST: y")),
    refused("two Hosts of HTTP/1.0", get(b"Host: y", version=b"HTTP/1.0")),
    refused("an empty Host", get(host=b"Host:")),
    refused("a Host that is a list", get(host=b"Host: x, y")),
    refused("a Host with a space", get(host=b"Host: x y")),
    refused("a Host with a user", get(host=b"Host: u@x")),
    refused("a Host with a path", get(host=b"Host: x/app")),
    refused("a Host that is an address", get(host=b"Host: http://x")),
    refused("a Host with a query", get(host=b"Host: x?y")),
    refused("a Host with a fragment", get(host=b"Host: x#y")),
    refused("a Host with a backslash", get(host=b"Host: x\\y")),
    refused("a Host with a port that is none", get(host=b"Host: x:port")),
    refused("a Host with two ports", get(host=b"Host: x:80:81")),
    refused("a Host with a negative port", get(host=b"Host: x:-1")),
    refused("a Host with a bracket too few", get(host=b"Host: [::1")),
    refused("a Host with 8-bit bytes", get(host=b"Host: \xc3\xa9.example")),
    refused("a Host with NUL", get(host=b"Host: x\0y")),
    refused("a Host with a quote", get(host=b'Host: "x"')),
    refused("a Host with a space before the colon", get(host=b"Host : x")),
    means("a Host of IPv6", get(host=b"Host: [::1]:8000"), with_fields((b"host", b"[::1]:8000"))),
    means("a Host between tabs", get(host=b"Host:\tx:80\t"), with_fields((b"host", b"x:80"))),
    means("a Host that comes last", get(b"Host: x", host=b"Accept: */*"), with_fields((b"host", b"x"))),
    refused("Connection names Host", get(b"Connection: host")),
    ends("HTTP/1.0 without a Host", get(version=b"HTTP/1.0", host=b"")),
    means("Host of another name beside it", get(b"X-Host: y", b"X-Forwarded-Host: y"), with_fields((b"host", b"x"))),
]

# ---- fields (5) ------------------------------------------------------------------------------------------------------

FIELDS = [
    refused("a space before the colon", get(b"X : y")),
    refused("a tab before the colon", get(b"X\t: y")),
    refused("obsolete folding", get(b"X: y", b" z")),
    refused("obsolete folding by a tab", get(b"X: y", b"\tz")),
    refused("folding of an empty value", get(b"X:", b" y")),
    refused("a first field that is folded", b"GET /app HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n"),
    refused("a line of spaces", get(b"   ")),
    refused("an empty name", get(b": y")),
    refused("no colon", get(b"X")),
    refused("a name with a space", get(b"X Y: z")),
    refused("a name in parentheses", get(b"X(Y): z")),
    refused("a name with a slash", get(b"X/Y: z")),
    refused("a name in quotes", get(b'"X": y')),
    refused("a name with NUL", get(b"X\0Y: z")),
    refused("a name with 8-bit bytes", get(b"X\xe9: y")),
    refused("a name with a control character", get(b"X\x01: y")),
    refused("NUL in a value", get(b"X: y\0z")),
    refused("a control character in a value", get(b"X: y\x01z")),
    refused("DEL in a value", get(b"X: y\x7fz")),
    refused("a bare CR in a value", get(b"X: y\rz")),
    refused("a bare LF between fields", get(b"X: y\nZ: z")),
    refused("a bare CR between fields", get(b"X: y\rZ: z")),
    refused("two CR behind a field", get(b"X: y\r")),
    refused("LF CR behind a field", get(b"X: y\n\rZ: z")),
    refused("bare LF everywhere", b"GET /app HTTP/1.1\nHost: x\n\n"),
    refused("the end by two LF", b"GET /app HTTP/1.1\r\nHost: x\n\n"),
    refused("the end by LF CRLF", b"GET /app HTTP/1.1\r\nHost: x\n\r\n"),
    refused("the end by CRLF LF", b"GET /app HTTP/1.1\r\nHost: x\r\n\n"),
    means("8-bit bytes in a value", get(b"X: \xc3\xa9\xff"), with_fields((b"x", b"\xc3\xa9\xff"))),
    means("tabs in a value", get(b"X: y\tz"), with_fields((b"x", b"y\tz"))),
    means("space round a value", get(b"X: \t y \t "), with_fields((b"x", b"y"))),
    means("an empty value", get(b"X:"), with_fields((b"x", b""))),
    means("a name in odd case", get(b"x-ODD-cAsE: y"), with_fields((b"x-odd-case", b"y"))),
    means("a name of all signs", get(b"!#$%&'*+-.^`|~0: y"), with_fields((b"!#$%&'*+-.^`|~0", b"y"))),
    means("the same name twice", get(b"X: y", b"X: z"), with_fields((b"x", b"y"))),
    means("a colon in a value", get(b"X: y: z"), with_fields((b"x", b"y: z"))),
    refused("more than a head may have", get(b"X: " + b"y" * HEAD_MOST), 431),
    refused("a target longer than a head", get(target=b"/app?" + b"y" * HEAD_MOST), 431),
    refused("a name longer than a head", get(b"y" * HEAD_MOST + b": z"), 431),
    refused("more fields than a head may have", get(*[b"X%d: y" % number for number in range(2000)]), 431),
    means("all that a head may have", get(b"X: " + b"y" * (HEAD_MOST - len(get(b"X: "))))),
]

# ---- what a connection is to do, and who asks (7.6, 10.1.1) ----------------------------------------------------------

UPGRADE = (b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13")
FORGED = (b"x-forwarded-for", b"192.0.2.9")
CONNECTION = [
    ends("close", get(b"Connection: close")),
    ends("close in odd case", get(b"connection: CLOSE")),
    ends("close in a list", get(b"Connection: keep-alive, close")),
    ends("close in a second field", get(b"Connection: keep-alive", b"Connection: close")),
    ends("close behind a body", post(CL, b"Connection: close", body=b"hello"), POST),
    ends("HTTP/1.0", get(version=b"HTTP/1.0")),
    ends("HTTP/1.0 with a body", post(CL, body=b"hello", version=b"HTTP/1.0"), POST),
    means("HTTP/1.0 that is kept alive", get(b"Connection: keep-alive", version=b"HTTP/1.0")),
    means("names that are nobody's", get(b"Connection: x-a, , x-b", b"X-A: y"), with_fields((b"x-a", None))),
    means(
        "Keep-Alive and Proxy-Connection",
        get(b"Keep-Alive: timeout=9", b"Proxy-Connection: close"),
        with_fields((b"keep-alive", None), (b"proxy-connection", None)),
    ),
    means("Connection names X-Forwarded-For", get(b"Connection: x-forwarded-for")),
    means("a forged X-Forwarded-For", get(b"X-Forwarded-For: 192.0.2.9")),
    means("two forged X-Forwarded-For", get(b"X-Forwarded-For: 192.0.2.9", b"x-forwarded-for: 192.0.2.8")),
    means("a forged Forwarded", get(b"Forwarded: for=192.0.2.9"), with_fields((b"forwarded", None))),
    means("a forged X-Real-IP", get(b"X-Real-IP: 192.0.2.9"), with_fields((b"x-real-ip", None))),
    means("a forged X-Forwarded-Proto", get(b"X-Forwarded-Proto: https"), with_fields((b"x-forwarded-proto", None))),
    means("a forged X_Forwarded_For", get(b"X_Forwarded_For: 192.0.2.9"), with_fields((b"x_forwarded_for", None))),
    means("Content_Length is nobody's framing", post(CL, b"Content_Length: 0", body=b"hello"), POST),
    means(
        "Upgrade to h2c",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        with_fields((b"upgrade", None), (b"http2-settings", None)),
    ),
    means(
        "forged marks of the relay",
        get(b"Grip-Exchange: 1", b"Grip_Exchange: 2", b"GRIP-Hold: stream", b"Grip-Channel: a"),
        with_fields((b"grip-exchange", None), (b"grip_exchange", None), (b"grip-hold", None), (b"grip-channel", None)),
    ),
    means("Upgrade that Connection does not name", get(b"Upgrade: websocket"), with_fields((b"upgrade", None))),
    means("Connection names an Upgrade that is not there", get(b"Connection: Upgrade")),
    means("an upgrade that the app does not want", get(b"Upgrade: websocket", *UPGRADE)),
    means("an upgrade with a body", post(CL, b"Upgrade: websocket", *UPGRADE, body=b"hello"), POST),
    ends(
        "an upgrade of HTTP/1.0",
        get(b"Upgrade: websocket", *UPGRADE, version=b"HTTP/1.0"),
        with_fields((b"upgrade", None)),
    ),
    refused("a demand that nobody can meet", post(CL, b"Expect: 200-ok", body=b"hello"), 417),
    means("Expect where there is nothing to come", get(b"Expect: 100-continue")),
    means(
        "Expect of HTTP/1.0",
        post(CL, b"Expect: 100-continue", b"Connection: keep-alive", body=b"hello", version=b"HTTP/1.0"),
        POST,
    ),
    means("Expect, and the body behind it at once", post(CL, b"Expect: 100-continue", body=b"hello"), POST),
    means("Expect in odd case, and chunks", post(TE, b"eXpEcT: 100-CONTINUE", body=CHUNKED), POST),
    means("HEAD", b"HEAD /app HTTP/1.1\r\nHost: x\r\n\r\n", Meant("HEAD", b"/app")),
    means(
        "HEAD with a body",
        b"HEAD /app HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        Meant("HEAD", b"/app", b"hello"),
    ),
    means("a method of WebDAV", b"PROPFIND /app HTTP/1.1\r\nHost: x\r\n\r\n", Meant("PROPFIND", b"/app")),
    means("ten at once", get() * 10, *[PLAIN] * 10),
    refused("a bad one behind good ones", get() * 3 + get(b"X : y"), 400, (PLAIN,) * 3),
]

# ---- streams ---------------------------------------------------------------------------------------------------------


def stream(*lines: bytes, body: bytes = b"", target: bytes = b"/sse/a") -> bytes:
    return get(*lines, target=target) + body


STREAMS = [
    refused("a stream with a body", stream(CL, body=b"hello")),
    refused("a stream with chunks", stream(TE, body=CHUNKED)),
    refused("a stream with chunks of no bytes", stream(TE, body=b"0\r\n\r\n")),
    refused("a stream with a body that never comes", stream(b"Content-Length: 1000000000000")),
    refused("a stream without a Host", get(target=b"/sse/a", host=b"")),
    refused("a stream with two Hosts", stream(b"Host: y")),
    refused("a stream by RTSP", get(target=b"/sse/a", version=b"RTSP/1.0")),
    refused("a stream with CL and TE", stream(CL, TE, body=CHUNKED)),
    refused("a stream with a space before a colon", stream(b"Last-Event-ID : a-1")),
    refused("a stream with a fragment", stream(target=b"/sse/a#/../app")),
    refused("a stream with 8-bit bytes", stream(target=b"/sse/\xe9")),
    refused("a stream of another host", stream(target=b"http://y/sse/a")),
]


def published_instead(case: Case) -> Case:
    """The same framing, of an event that is published in place."""
    requests = tuple(m if m == SECOND else m._replace(target=b"/publish/a", fields=()) for m in case.means)
    sent = case.sent.replace(b"POST /app ", b"POST /publish/a ")
    return case._replace(name=f"publish: {case.name}", sent=sent, means=requests)


RELAYED = [
    *REQUEST_LINES,
    *TARGETS,
    *HOSTS,
    *FIELDS,
    *LENGTHS,
    *CODINGS,
    *UNKNOWN_CODINGS,
    *CHUNKS,
    *CONNECTION,
    *STREAMS,
]
PUBLISHED = [
    published_instead(case)
    for case in (*LENGTHS, *CODINGS, *UNKNOWN_CODINGS, *CHUNKS, *CONNECTION)
    if case.sent.startswith(b"POST /app ")
]
CASES = [*RELAYED, *PUBLISHED]
