"""Which bytes does a hostile client send to the port? One line a case, each with why.

`TOKEN` and `ID` stand for a valid token and for an event id of the case's own. `HIDDEN` is a whole valid
request, under an event id that begins with `hidden`: whoever reads it as one was taken in.
"""

import re

TARGET = "/server/incoming_data"
TOKEN, ID = "{token}", "{id}"
OURS = (f"CL-X-TOKEN: {TOKEN}", f"CL-X-EVENT-ID: {ID}", "Content-Type: application/json")


def post(
    *lines: str,
    body: str | None = "{}",
    first: str = f"POST {TARGET} HTTP/1.1",
    ours: tuple[str, ...] = OURS,
    host: tuple[str, ...] = ("Host: localhost",),
    end: str = "\r\n",
) -> str:
    """A request that is valid but for what the case changes; a body that no line frames gets its length."""
    framed = body is None or any("ength" in line or "ncoding" in line for line in lines)
    return end.join((first, *host, *ours, *lines, *(() if framed else (LENGTH,)), "", "")) + (body or "")


LENGTH = "Content-Length: {length}"  # of the whole body as it is sent
HIDDEN = post("Connection: close", "Content-Length: 2", ours=(OURS[0], "CL-X-EVENT-ID: hidden-{id}", OURS[2]))
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = "0\r\n\r\n" + HIDDEN  # by chunks it is over at once; by length the hidden request belongs to it
IN_A_CHUNK = "{size}\r\n" + HIDDEN + "\r\n0\r\n\r\n"  # by chunks the hidden request belongs to it


def get(*lines: str, body: str = CHUNKS, path: str = "/api/schema/") -> str:
    return post(*lines, body=body, first=f"GET {path} HTTP/1.1", ours=())


# Two servers in a row read where these end differently: nothing behind them may be read as a request.
SMUGGLED = [
    ("CL.TE", post(LENGTH, CHUNKED, body=CHUNKS)),
    ("CL.TE, the other order", post(CHUNKED, LENGTH, body=CHUNKS)),
    ("CL.TE with a length that does not fit either", post("Content-Length: 3", CHUNKED, body=CHUNKS)),
    ("TE.CL", post("Content-Length: 4", CHUNKED, body=IN_A_CHUNK)),
    ("TE.CL, the other order", post(CHUNKED, "Content-Length: 4", body=IN_A_CHUNK)),
    ("CL.0: a length of nothing beside chunks", post("Content-Length: 0", CHUNKED, body=CHUNKS)),
    ("CL.TE on a GET of the receiver", get(LENGTH, CHUNKED, path=TARGET)),
    ("CL.TE on a path of Django's", get(LENGTH, CHUNKED)),
    ("CL.TE on the health check", get(LENGTH, CHUNKED, path="/health/live")),
    ("CL.TE on the metrics", get(LENGTH, CHUNKED, path="/metrics")),
    ("CL.TE on a path that nobody has", get(LENGTH, CHUNKED, path="/nothing")),
    ("TE twice, chunked last", post(LENGTH, "Transfer-Encoding: x", CHUNKED, body=CHUNKS)),
    ("TE twice, chunked first", post(LENGTH, CHUNKED, "Transfer-Encoding: x", body=CHUNKS)),
    ("TE twice, both chunked", post(LENGTH, CHUNKED, CHUNKED, body=CHUNKS)),
    ("TE unknown", post(LENGTH, "Transfer-Encoding: xchunked", body=CHUNKS)),
    ("TE identity", post(LENGTH, "Transfer-Encoding: identity", body=CHUNKS)),
    ("TE empty", post(LENGTH, "Transfer-Encoding:", body=CHUNKS)),
    ("TE in capitals", post(LENGTH, "TRANSFER-ENCODING: CHUNKED", body=CHUNKS)),
    ("TE of two codings", post(LENGTH, "Transfer-Encoding: gzip, chunked", body=CHUNKS)),
    ("TE with chunked before another", post(LENGTH, "Transfer-Encoding: chunked, gzip", body=CHUNKS)),
    ("TE chunked twice in one", post(LENGTH, "Transfer-Encoding: chunked, chunked", body=CHUNKS)),
    ("TE with a comma before it", post(LENGTH, "Transfer-Encoding: ,chunked", body=CHUNKS)),
    ("TE in quotes", post(LENGTH, 'Transfer-Encoding: "chunked"', body=CHUNKS)),
    ("TE with a parameter", post(LENGTH, "Transfer-Encoding: chunked;q=1", body=CHUNKS)),
    ("TE with a space before the colon", post(LENGTH, "Transfer-Encoding : chunked", body=CHUNKS)),
    ("TE with a tab before the colon", post(LENGTH, "Transfer-Encoding\t: chunked", body=CHUNKS)),
    ("TE with a space before its name", post(LENGTH, " Transfer-Encoding: chunked", body=CHUNKS)),
    ("TE after a tab", post(LENGTH, "Transfer-Encoding:\tchunked", body=CHUNKS)),
    ("TE with a vertical tab", post(LENGTH, "Transfer-Encoding: \x0bchunked", body=CHUNKS)),
    ("TE with a NUL behind", post(LENGTH, "Transfer-Encoding: chunked\x00", body=CHUNKS)),
    ("TE with a non-breaking space", post(LENGTH, "Transfer-Encoding: \xa0chunked", body=CHUNKS)),
    ("TE folded", post(LENGTH, "Transfer-Encoding:\r\n chunked", body=CHUNKS)),
    ("TE folded with a tab", post(LENGTH, "Transfer-Encoding: x\r\n\tchunked", body=CHUNKS)),
    ("TE behind a bare LF", post(LENGTH, "X: a\nTransfer-Encoding: chunked", body=CHUNKS)),
    ("TE behind a bare CR", post(LENGTH, "X: a\rTransfer-Encoding: chunked", body=CHUNKS)),
    ("TE behind a NUL", post(LENGTH, "X: a\x00Transfer-Encoding: chunked", body=CHUNKS)),
    ("TE with a NUL in its name", post(LENGTH, "Transfer-\x00Encoding: chunked", body=CHUNKS)),
    ("TE in an old version", post(LENGTH, CHUNKED, body=CHUNKS, first=f"POST {TARGET} HTTP/1.0")),
    ("two lengths, the first small", post("Content-Length: 2", LENGTH, body="{}" + HIDDEN)),
    ("two lengths, the last small", post(LENGTH, "Content-Length: 2", body="{}" + HIDDEN)),
    ("two lengths in other cases", post("content-length: 2", "CONTENT-LENGTH: {length}", body="{}" + HIDDEN)),
    ("a list of the same lengths", post("Content-Length: 2, 2", body="{}" + HIDDEN)),
    ("a list of lengths", post("Content-Length: 2, {length}", body="{}" + HIDDEN)),
    ("a length and half a list", post("Content-Length: 2,", body="{}" + HIDDEN)),
    ("two lengths with a space", post("Content-Length: 2 2", body="{}" + HIDDEN)),
    ("a negative length", post("Content-Length: -2", body="{}" + HIDDEN)),
    ("a signed length", post("Content-Length: +2", body="{}" + HIDDEN)),
    ("a length in hexadecimal", post("Content-Length: 0x2", body="{}" + HIDDEN)),
    ("a length with a fraction", post("Content-Length: 2.0", body="{}" + HIDDEN)),
    ("a length with an exponent", post("Content-Length: 2e0", body="{}" + HIDDEN)),
    ("a length with an underscore", post("Content-Length: 0_2", body="{}" + HIDDEN)),
    ("a length in other digits", post("Content-Length: \xb2", body="{}" + HIDDEN)),
    ("a length with a semicolon", post("Content-Length: 2;", body="{}" + HIDDEN)),
    ("a length in quotes", post('Content-Length: "2"', body="{}" + HIDDEN)),
    ("a length with a NUL", post("Content-Length: 2\x00", body="{}" + HIDDEN)),
    ("an empty length", post("Content-Length:", body="{}" + HIDDEN)),
    ("a length that is 2 in 64 bits", post("Content-Length: 18446744073709551618", body="{}" + HIDDEN)),
    ("a length that is 2 in 32 bits", post("Content-Length: 4294967298", body="{}" + HIDDEN)),
    ("a length of 400 digits", post("Content-Length: " + "0" * 399 + "2", body="{}" + HIDDEN)),
    ("a length with a space before the colon", post("Content-Length : 2", body="{}" + HIDDEN)),
    ("a length with a space before its name", post(" Content-Length: 2", body="{}" + HIDDEN)),
    ("a length that is folded", post("Content-Length:\r\n 2", body="{}" + HIDDEN)),
    ("a length of two folded lines", post("Content-Length: 2\r\n 2", body="{}" + HIDDEN)),
    ("a length under another name", post("Content_Length: {length}", body=HIDDEN)),
    ("no length, and a body all the same", post(body=None) + HIDDEN),
    ("chunks of no hexadecimal size", post(CHUNKED, body="zz\r\n{}\r\n0\r\n\r\n" + HIDDEN)),
    ("chunks of a negative size", post(CHUNKED, body="-2\r\n{}\r\n0\r\n\r\n" + HIDDEN)),
    ("chunks of a size over 64 bits", post(CHUNKED, body="1" + "0" * 15 + "2\r\n{}\r\n0\r\n\r\n" + HIDDEN)),
    ("chunks of an endless size line", post(CHUNKED, body="2;" + "x" * 70_000 + "\r\n{}\r\n" + CHUNKS)),
    ("chunks with a bare LF", post(CHUNKED, body="2\n{}\r\n0\r\n\r\n" + HIDDEN)),
    ("chunks longer than they say", post(CHUNKED, body="2\r\n{}}}\r\n0\r\n\r\n" + HIDDEN)),
    ("chunks with endless trailers", post(CHUNKED, body="0\r\n" + "X: y\r\n" * 9_000 + "\r\n" + HIDDEN)),
    ("chunks with a length behind", post(CHUNKED, body="0\r\nContent-Length: 9\r\n\r\n" + HIDDEN)),
    ("a head that ends by a bare LF", post(body=None, end="\n") + HIDDEN),
    ("a head that ends by a bare CR", post(body=None, end="\r") + HIDDEN),
    ("an upgrade to HTTP/2", post("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", body=HIDDEN)),
    ("an upgrade to a web socket", get("Upgrade: websocket", "Connection: Upgrade", LENGTH)),
    ("HTTP/2 without an upgrade", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN),
    ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + HIDDEN),
]  # fmt: skip

# Each would be stored, if it were not refused: by an answer of 4xx, or by a closed connection.
REFUSED = [
    ("chunks", post(CHUNKED, body="2\r\n{}\r\n0\r\n\r\n")),
    ("no body and no length", post(body=None)),
    ("a header folded", post("X: a\r\n b")),
    ("a header that begins with a space", post(" X: a")),
    ("a space before a colon", post("X : a")),
    ("a header without a colon", post("X")),
    ("a header without a name", post(": a")),
    ("a bare CR in a header", post("X: a\rb")),
    ("a NUL in a header", post("X: a\x00b")),
    ("a NUL in a name", post("X\x00: a")),
    ("a name that is not ASCII", post("X\xe9: a")),
    ("70 KB in the name of a header", post("X" * 70_000 + ": y")),
    ("101 headers", post(*(f"X-{number}: y" for number in range(101)))),
    ("10,000 headers", post(*(f"X-{number}: y" for number in range(10_000)))),
    ("a head of 1 MB", post(*(f"X-{number}: {'y' * 16_000}" for number in range(64)))),
    ("two tokens", post(f"CL-X-TOKEN: {TOKEN}")),
    ("two tokens in other cases", post(f"cl-x-token: {TOKEN}")),
    ("two tokens, the first wrong", post(*OURS, ours=("CL-X-TOKEN: x",))),
    ("two tokens in one", post(ours=(f"CL-X-TOKEN: {TOKEN},{TOKEN}", *OURS[1:]))),
    ("a token folded", post(ours=(f"CL-X-TOKEN:\r\n {TOKEN}", *OURS[1:]))),
    ("a token with a NUL", post(ours=(f"CL-X-TOKEN: {TOKEN}\x00", *OURS[1:]))),
    ("a token with a comma", post(ours=(f"CL-X-TOKEN: {TOKEN},", *OURS[1:]))),
    ("a token in quotes", post(ours=(f'CL-X-TOKEN: "{TOKEN}"', *OURS[1:]))),
    ("a token as a bearer", post(ours=(f"Authorization: Bearer {TOKEN}", *OURS[1:]))),
    ("a token with an underscore for a hyphen", post(ours=(f"CL_X_TOKEN: {TOKEN}", *OURS[1:]))),
    ("a token in the query", post(first=f"POST {TARGET}?CL-X-TOKEN={TOKEN} HTTP/1.1", ours=OURS[1:])),
    ("a token in the trailer", post(CHUNKED, ours=OURS[1:], body=f"0\r\nCL-X-TOKEN: {TOKEN}\r\n\r\n")),
    ("a token in a cookie", post(ours=(f"Cookie: CL-X-TOKEN={TOKEN}", *OURS[1:]))),
    ("no token", post(ours=OURS[1:])),
    ("an endless token", post(ours=("CL-X-TOKEN: clx_" + "a" * 50_000, *OURS[1:]))),
    ("two ids", post(f"CL-X-EVENT-ID: {ID}")),
    ("two ids that differ", post(f"CL-X-EVENT-ID: {ID}-b")),
    ("an id with a bare CR", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\rb", OURS[2]))),
    ("an id with a bare LF", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\nb", OURS[2]))),
    ("an id with a NUL", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\x00b", OURS[2]))),
    ("an id that is not ASCII", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\xe9", OURS[2]))),
    ("an id in another alphabet", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\xd0\xb0", OURS[2]))),
    ("an id with a space", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID} b", OURS[2]))),
    ("an id with DEL", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\x7f", OURS[2]))),
    ("an id with an escape", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\x1b[2J", OURS[2]))),
    ("an id of 129", post(ours=(OURS[0], "CL-X-EVENT-ID: " + "x" * 129, OURS[2]))),
    ("an id of 9 KB", post(ours=(OURS[0], "CL-X-EVENT-ID: " + "x" * 9_000, OURS[2]))),
    ("an id folded", post(ours=(OURS[0], f"CL-X-EVENT-ID: {ID}\r\n b", OURS[2]))),
    ("no id", post(ours=(OURS[0], OURS[2]))),
    ("another type", post(ours=(*OURS[:2], "Content-Type: text/plain"))),
    ("two types", post("Content-Type: text/plain")),
    ("a body that is gzipped", post("Content-Encoding: gzip", "Content-Length: 2")),
    ("a body shorter than it says", post("Content-Length: 999")),
    ("a body longer than it may be", post("Content-Length: 1048577")),
    ("a body of 10 GB, says the length", post("Content-Length: 10000000000")),
    ("a body that is empty", post(body="")),
    ("a body that is no object", post(body="[{}]")),
    ("a body with a NUL", post(body='{"a":"\x00"}')),
    ("a body with an overlong NUL", post(body='{"a":"\xc0\x80"}')),
    ("a body with a lone surrogate", post(body='{"a":"\\ud800"}')),
    ("a body 200,000 deep", post(body='{"a":' + "[" * 200_000 + "]" * 200_000 + "}")),
    ("a body with a number of 10,000 digits", post(body='{"a":' + "9" * 10_000 + "}")),
    ("a body that is not UTF-8", post(body='{"a":"\xff"}')),
    ("a body with a byte order mark", post(body="\xef\xbb\xbf{}")),
    *((f"the method {method!r:.30}", post(first=f"{method} {TARGET} HTTP/1.1"))
      for method in (
          "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "COPY",
          "MOVE", "LOCK", "SEARCH", "PURGE", "QUERY", "BREW", "post", "Post", "POSTT", "POS", "P", "POST;",
          "<script>", "../../", "%50OST", "P\x00ST", "P\xd6ST", "POST\t", " POST", "POST ", "", "X" * 9_000,
      )),
    *((f"the version {version!r}", post(first=f"POST {TARGET} {version}"))
      for version in (
          "HTTP/0.9", "HTTP/1.2", "HTTP/1.10", "HTTP/01.1", "HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/9.9",
          "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/-1.1", "HTTP/1.1.1", "HTTP/1.1 x", "http/1.1", "HTTPS/1.1",
          "ICY/1.1", "RTSP/1.0", "HTTP 1.1", "HTTP/1,1", "HTTP/1.1\x00", "HTTP/\xb9.\xb9", "",
      )),
    ("a tunnel", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("no version at all, and no head", f"POST {TARGET}\r\n\r\n"),
    *((f"the target {target!r:.40}", post(first=f"POST {target} HTTP/1.1"))
      for target in (
          "*", "", "/", "//", ".", "..", "?", "server/incoming_data", "\\server\\incoming_data",
          "/server/../server/incoming_data", "/./server/incoming_data", "/server/./incoming_data",
          "/server/x/../incoming_data", "/server//incoming_data", "//server/incoming_data",
          "/server/incoming_data//", "/server/incoming_data/.", "/server/incoming_data/..",
          "/server/incoming_data/x", "/server/incoming_data;x", "/server/incoming_data.json",
          "/server/incoming_data%00", "/server/incoming_data%20", "/server/incoming_data%0d%0aX:%20y",
          "/server/incoming_data%2e", "/server/incoming_data%3f", "/server/incoming_data%23",
          "/server/incoming_data%2f%2e%2e", "/server/%2e/incoming_data", "/%2e%2e/server/incoming_data",
          "/server/incoming_data%", "/server/incoming_data%zz", "/server/incoming%255fdata",
          "/server/incoming%u005fdata", "/server/incoming%c1%9fdata", "/server/incoming_dat%E1",
          "/server%5cincoming_data", "/SERVER/incoming_data", "/Server/Incoming_Data",
          "/server/incoming_data\x00", "/server/incoming_data\xe9", "/server/incoming_data\t",
          "/server/incoming data", "/server/incoming_data \x0b", "<script>", "/" + "a" * 70_000,
          "localhost:80", "localhost", "http://", "http:", "http:/server/incoming_data",
          "http://[::1/server/incoming_data", "http:///server/incoming_data", "javascript:alert(1)",
          "file:///etc/passwd", "/etc/passwd", "/static/../config/settings.py",
          "/static/%2e%2e/%2e%2e/config/settings.py", "/static/..%2fconfig%2fsettings.py",
          "/static//etc/passwd", "/.git/config", "/.env", "/api/v1/../../server/incoming_data",
      )),
]  # fmt: skip

# Unusual, and of one meaning only: each is stored once.
TAKEN = [
    ("an ordinary one", post()),
    ("empty lines before it", "\r\n\r\n" + post()),
    ("the whole address as its target", post(first=f"POST http://localhost{TARGET} HTTP/1.1")),
    (
        "another's address: whose event it is, the token says",
        post(first=f"POST ftp://x:99999{TARGET} HTTP/1.1"),
    ),
    ("the same length twice, which RFC 9112 lets us read", post("Content-Length: 2", "Content-Length: 2")),
    ("an escape that stands for itself", post(first="POST /server/incoming%5Fdata HTTP/1.1")),
    ("a slash more, and a query", post(first=f"POST {TARGET}/?a=1&b=../.. HTTP/1.1")),
    ("a header of 9 KB", post("X: " + "y" * 9_000)),
    ("as many headers as may be", post(*(f"X-{number}: y" for number in range(90)))),
    ("an old version", post(first=f"POST {TARGET} HTTP/1.0")),
    ("tabs around values", post(ours=(f"CL-X-TOKEN:\t{TOKEN}\t", *OURS[1:]))),
    ("a value that is not ASCII", post("X: \xe9")),
    ("lines that end by a bare LF, which RFC 9112 lets us read", post(end="\n")),
]


def rendered(case: str, *, token: str, event_id: str) -> bytes:
    """As it goes onto the wire: what is in braces is known now."""
    text = case.replace(TOKEN, token).replace(ID, event_id)
    hidden = HIDDEN.replace(TOKEN, token).replace(ID, event_id)
    body = re.split("\r?\n\r?\n", text.lstrip(), maxsplit=1)[-1]
    return text.replace("{length}", str(len(body))).replace("{size}", f"{len(hidden):x}").encode("latin-1")
