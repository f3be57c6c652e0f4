"""Bodies whose end two parsers could see in two places (RFC 9112, sections 6 and 7); see `ambiguity`."""

from ambiguity import POST, Meant, get, means, post, refused, with_fields

CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
TE = b"Transfer-Encoding: chunked"
CL = b"Content-Length: 5"
SMUGGLED = b"GET /app?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)


def length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value, body=b"hello")


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value, body=CHUNKED)


LENGTHS = [
    means("Content-Length", post(CL, body=b"hello"), POST),
    means("Content-Length without a space", post(b"Content-Length:5", body=b"hello"), POST),
    means("Content-Length between spaces", post(b"Content-Length: \t5 \t", body=b"hello"), POST),
    means("Content-Length in odd case", post(b"cOnTeNt-lEnGtH: 5", body=b"hello"), POST),
    means("Content-Length with zeros before", length(b"0005"), POST),
    means("Content-Length of nothing", post(b"Content-Length: 0"), Meant("POST", b"/app")),
    means("a POST without a body", post(), Meant("POST", b"/app")),
    means("a GET with a body", get(CL) + b"hello", Meant("GET", b"/app", b"hello")),
    means(
        "a request for a body", post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), POST._replace(body=SMUGGLED)
    ),
    refused("bytes behind a POST without a body", post(body=b"hello\r\n\r\n"), 400, (Meant("POST", b"/app"),)),
    refused("bytes behind a body", post(CL, body=b"hello there\r\n\r\n"), 400, (POST,)),
    refused("Content-Length with a plus", length(b"+5")),
    refused("Content-Length with a minus", length(b"-5")),
    refused("Content-Length of minus nothing", length(b"-0")),
    refused("Content-Length in hexadecimal", length(b"0x5")),
    refused("Content-Length with a letter", length(b"5a")),
    refused("Content-Length with an underscore", post(b"Content-Length: 1_0", body=b"hellohello")),
    refused("Content-Length with a point", length(b"5.0")),
    refused("Content-Length with an exponent", length(b"5e0")),
    refused("Content-Length in quotes", length(b'"5"')),
    refused("Content-Length with a parameter", length(b"5;a=b")),
    refused("Content-Length with a space within", length(b"5 5")),
    refused("Content-Length with a tab within", length(b"0\t5")),
    refused("Content-Length of no digits", length(b"")),
    refused("Content-Length of spaces", length(b"   ")),
    refused("Content-Length in other digits", length("٥".encode())),
    refused("Content-Length with a vertical tab", length(b"5\x0b")),
    refused("Content-Length with NUL", length(b"5\0")),
    refused("Content-Length that is a list", length(b"5, 5")),
    refused("Content-Length that is a list of two", length(b"5, 6")),
    refused("Content-Length with a comma behind", length(b"5,")),
    refused("Content-Length twice", post(CL, CL, body=b"hello")),
    refused("two Content-Lengths", post(CL, b"Content-Length: 0", body=b"hello")),
    refused("two Content-Lengths, the first of nothing", post(b"Content-Length: 0", CL, body=b"hello")),
    refused("Content-Length twice in different case", post(CL, b"content-length: 5", body=b"hello")),
    refused("Content-Length over 64 bits", length(b"18446744073709551621")),
    refused("Content-Length over 64 bits many times", length(b"9" * 60)),
    refused("Content-Length with a space before the colon", post(b"Content-Length : 5", body=b"hello")),
    refused("Content-Length with NUL in its name", post(b"Content-Length\0: 5", body=b"hello")),
    refused("Content-Length folded", post(b"Content-Length:", b" 5", body=b"hello")),
    refused("Content-Length folded to another", post(CL, b" 5", body=b"hello")),
    refused("Content-Length as the fold of another", post(b"X: y", b" Content-Length: 5", body=b"hello")),
    refused("Content-Length behind a bare CR", post(b"X: y\rContent-Length: 5", body=b"hello")),
    refused("Content-Length behind a bare LF", post(b"X: y\nContent-Length: 5", body=b"hello")),
    refused("Content-Length with CR CR LF", post(b"Content-Length: 5\r", body=b"hello")),
]

CODINGS = [
    means("chunked", coding(b"chunked"), POST),
    means("chunked in odd case", post(b"tRaNsFeR-eNcOdInG: cHuNkEd", body=CHUNKED), POST),
    means("chunked behind a tab", coding(b"\tchunked"), POST),
    means("chunked before spaces", coding(b"chunked  "), POST),
    means("a GET with chunks", get(TE) + CHUNKED, Meant("GET", b"/app", b"hello")),
    means("a request within a chunk", post(TE, body=SMUGGLED_CHUNK), POST._replace(body=SMUGGLED)),
    refused("CL.TE", post(b"Content-Length: 15", TE, body=CHUNKED)),
    refused(
        "CL.TE, a request behind the chunks",
        post(b"Content-Length: %d" % (5 + len(SMUGGLED)), TE, body=b"0\r\n\r\n" + SMUGGLED),
    ),
    refused("TE.CL", post(TE, b"Content-Length: 4", body=SMUGGLED_CHUNK)),
    refused("TE.CL of nothing", post(TE, b"Content-Length: 0", body=CHUNKED)),
    refused("TE and a Content-Length that is none", post(TE, b"Content-Length: x", body=CHUNKED)),
    refused("Transfer-Encoding of nothing", coding(b"")),
    refused("chunked twice", coding(b"chunked, chunked")),
    refused("chunked twice, in two fields", post(TE, TE, body=CHUNKED)),
    refused("chunked and identity", post(TE, b"Transfer-Encoding: identity", body=CHUNKED)),
    refused("identity and chunked", post(b"Transfer-Encoding: identity", TE, body=CHUNKED), 501),
    refused("chunked, then gzip", coding(b"chunked, gzip")),
    refused("a comma behind chunked", coding(b"chunked,")),
    refused("a comma before chunked", coding(b", chunked"), 501),
    refused("chunked in quotes", coding(b'"chunked"')),
    refused("chunked with a parameter", coding(b"chunked;q=1")),
    refused("chunked behind a vertical tab", coding(b"\x0bchunked")),
    refused("chunked and a form feed", coding(b"chunked\x0c")),
    refused("chunked and NUL", coding(b"chunked\0")),
    refused("chunked with a space within", coding(b"chun ked")),
    refused("chunked with a space before the colon", post(b"Transfer-Encoding : chunked", body=CHUNKED)),
    refused("chunked in a folded field", post(b"Transfer-Encoding:", b" chunked", body=CHUNKED)),
    refused("chunked as the fold of another", post(b"X: y", b" Transfer-Encoding: chunked", body=CHUNKED)),
    refused("chunked behind a bare LF", post(b"X: y\nTransfer-Encoding: chunked", body=CHUNKED)),
    refused("chunked behind a bare CR", post(b"X: y\rTransfer-Encoding: chunked", body=CHUNKED)),
    refused("chunked, the name broken", post(b"Transfer-\r\nEncoding: chunked", body=CHUNKED)),
    refused("chunked of HTTP/1.0", post(TE, body=CHUNKED, version=b"HTTP/1.0")),
    refused(
        "chunked of HTTP/1.0 that is kept alive", post(TE, b"Connection: keep-alive", body=CHUNKED, version=b"HTTP/1.0")
    ),
    refused("Connection names Content-Length", post(CL, b"Connection: content-length", body=b"hello")),
    refused("Connection names Transfer-Encoding", post(TE, b"Connection: transfer-encoding", body=CHUNKED)),
    means("TE is nobody's framing", post(CL, b"TE: chunked", body=b"hello"), with_fields((b"te", None), of=POST)),
    means("Transfer-Encoding of another name", post(CL, b"X-Transfer-Encoding: chunked", body=b"hello"), POST),
]
UNKNOWN_CODINGS = [
    refused("identity", coding(b"identity")),
    refused("gzip", coding(b"gzip")),
    refused("gzip, then chunked", coding(b"gzip, chunked"), 501),
    refused("a coding with chunked in it", coding(b"xchunked")),
    refused("a coding that begins with chunked", coding(b"chunkedx")),
    refused("chunk", coding(b"chunk")),
]


def chunks(body: bytes) -> bytes:
    return post(TE, body=body)


CHUNKS = [
    means("chunks of no bytes", chunks(b"0\r\n\r\n"), Meant("POST", b"/app")),
    means("a chunk in two", chunks(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), POST),
    means("a size with zeros before", chunks(b"0005\r\nhello\r\n000\r\n\r\n"), POST),
    means("a size in capitals", chunks(b"A\r\nhellohello\r\n0\r\n\r\n"), POST._replace(body=b"hellohello")),
    means("a size in small letters", chunks(b"a\r\nhellohello\r\n0\r\n\r\n"), POST._replace(body=b"hellohello")),
    means(
        "a chunk that looks like the last one", chunks(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), POST._replace(body=b"0\r\n\r\n")
    ),
    means("an extension", chunks(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), POST),
    means("an extension in quotes", chunks(b'5;a="b c"\r\nhello\r\n0\r\n\r\n'), POST),
    refused("a size with 0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    refused("a size with a plus", chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    refused("a size with a minus", chunks(b"-5\r\nhello\r\n0\r\n\r\n")),
    refused("a size with an underscore", chunks(b"1_0\r\n" + b"h" * 16 + b"\r\n0\r\n\r\n")),
    refused("a size behind a space", chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    refused("a size before a space", chunks(b"5 \r\nhello\r\n0\r\n\r\n")),
    refused("a size before a tab", chunks(b"5\t\r\nhello\r\n0\r\n\r\n")),
    refused("no size", chunks(b"\r\nhello\r\n0\r\n\r\n")),
    refused("an extension without a size", chunks(b";a\r\nhello\r\n0\r\n\r\n")),
    refused("a size that is none", chunks(b"G\r\nhello\r\n0\r\n\r\n")),
    refused("a size over 64 bits", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n")),
    refused("a size of 64 bits", chunks(b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n")),
    refused("a size over 32 bits of zeros and more", chunks(b"0" * 200_000 + b"5\r\nhello\r\n0\r\n\r\n")),
    refused("a bare LF behind a size", chunks(b"5\nhello\r\n0\r\n\r\n")),
    refused("a bare CR behind a size", chunks(b"5\rhello\r\n0\r\n\r\n")),
    refused("CR CR LF behind a size", chunks(b"5\r\r\nhello\r\n0\r\n\r\n")),
    refused("a bare LF in an extension", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    refused("a bare LF in an extension, and a chunk", chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\n" + SMUGGLED)),
    refused("a bare CR in an extension", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    refused("NUL in an extension", chunks(b"5;a\0b\r\nhello\r\n0\r\n\r\n")),
    refused("CRLF in an extension's quotes", chunks(b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n')),
    refused("an extension without end", chunks(b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n")),
    refused("a chunk longer than it says", chunks(b"4\r\nhello\r\n0\r\n\r\n")),
    refused("a bare LF behind a chunk", chunks(b"5\r\nhello\n0\r\n\r\n")),
    refused("a bare CR behind a chunk", chunks(b"5\r\nhello\r0\r\n\r\n")),
    refused("nothing behind a chunk", chunks(b"5\r\nhello0\r\n\r\n")),
    refused("two bytes for CRLF behind a chunk", chunks(b"5\r\nhelloXX0\r\n\r\n")),
    refused("a bare LF behind the last chunk", chunks(b"5\r\nhello\r\n0\n\r\n")),
    refused("the end by a bare LF", chunks(b"5\r\nhello\r\n0\r\n\n")),
    means("trailers", chunks(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"), with_fields((b"x", None), of=POST)),
    refused("a trailer that frames", chunks(b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n")),
    refused("a trailer that frames as well", chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    means(
        "a trailer that routes",
        chunks(b"5\r\nhello\r\n0\r\nHost: y\r\n\r\n"),
        with_fields((b"host", b"x"), of=POST),
    ),
    means(
        "trailers that say who asks",
        chunks(b"5\r\nhello\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer x\r\n\r\n"),
        with_fields((b"authorization", None), of=POST),
    ),
    refused("a trailer with a space before the colon", chunks(b"5\r\nhello\r\n0\r\nX : y\r\n\r\n")),
    refused("a trailer without a colon", chunks(b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n")),
    refused("a trailer with a bare LF", chunks(b"5\r\nhello\r\n0\r\nX: y\n\r\n")),
    refused("trailers that end with LF LF", chunks(b"5\r\nhello\r\n0\r\nX: y\r\n\n")),
    refused("a folded trailer", chunks(b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n")),
    refused("trailers without end", chunks(b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n")),
]
