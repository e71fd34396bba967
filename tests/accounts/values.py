"""Values that pass and values that don't, per field: for the validators and for the database."""

GOOD = {
    ("user", "email"): [
        "a@b.co",
        "first.last+tag@sub.example.com",
        "o'brien%x@example.com",  # % must survive the way into the CHECK
        "x" * 64 + "@example.com",
        "a@xn--bcher-kva.example",
    ],
    ("account", "name"): ["A", "Großer Laden 🛒", "a" * 200, " padded "],
    ("account", "website"): [
        "",
        "https://example.com",
        "http://www.example.co.uk:8080/path?q=1#part",
        "https://Example.com",
    ],
    ("account", "rate_limit_per_second"): [1, 5, 1000],
    ("destination", "url"): [
        "https://hooks.example.com/in?a=1",
        "http://127.0.0.1:9000/",
        "HTTP://EXAMPLE.com",
    ],
    ("destination", "http_method"): ["GET", "POST", "PUT", "PATCH", "DELETE"],
    ("destination", "timeout_seconds"): [1, 15, 30],
    ("destination", "retry_schedule_seconds"): [[], [1], [86_400] * 20],
}

# What the database refuses too.
BAD = {
    ("user", "email"): [
        "",
        "plain",
        "@example.com",
        "a@",
        "a@localhost",  # one label
        "a@b..co",
        ".a@b.co",
        "a.@b.co",
        "a..b@b.co",
        "a@-b.co",
        "a@b.1",  # an address, not a name
        "a@[127.0.0.1]",
        '"quoted"@b.co',
        "a b@b.co",
        "a@b.co\nbcc: c@d.co",
        "ümlaut@example.com",
        "\u212aelvin@example.com",  # the Kelvin sign is a k to a regex that ignores case
        f"a@{'b' * 63}.{'c' * 63}.{'d' * 63}.{'e' * 63}.com",  # over 254
    ],
    ("account", "name"): ["", "   ", "\t", "a\nb", "a\x7f", "a\x85b", "a\u2028b", "a" * 201],
    ("account", "website"): [
        "example.com",
        "javascript:alert(1)//https://example.com",
        "ftp://example.com",
        "https://",
        "https://exa mple.com",
        "https://example.com/\n",
        "https://bücher.example",
        "https://example.com/" + "a" * 2048,
    ],
    ("account", "rate_limit_per_second"): [0, -1, 1_000_001],
    ("destination", "url"): [
        "",
        "ftp://example.com",
        "https://example.com/a b",
        "https://example.com/" + "a" * 2048,
    ],
    ("destination", "http_method"): ["", "get", "HEAD", "POST "],
    ("destination", "timeout_seconds"): [0, -1, 31],
    ("destination", "retry_schedule_seconds"): [[0], [-1], [86_401], [1] * 21, [1, None]],
}

# What only Python can tell.
SUBTLE = {
    ("user", "email"): ["a\0@b.co", "a@b.co\ud800", "x" * 65 + "@example.com"],
    ("account", "name"): ["a\0b", "a\ud800b"],
    ("account", "website"): [
        "https://localhost",
        "https://user:password@example.com",
        "https://example.com\\@evil.com",
        "https://example.com:99999",
        "https://example.com:0",
        "https://1.2.3.4",
        "https://[::1]/",
        "https://[::1",
        "https://a..b",
    ],
    ("account", "rate_limit_per_second"): [1001],  # over RATE_LIMIT_MAX, the operator's
    ("destination", "url"): [
        "https://10.0.0.1/",  # private
        "http://169.254.169.254/latest",  # metadata
        "http://2130706433/",  # 127.0.0.1 in another form
        "https://localhost/",
        "https://db.internal/",
        "https://example.com:22/",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://[fd00::1]/",
        "https://example.com/\ud800",
    ],
    ("destination", "retry_schedule_seconds"): ["5", {"1": 2}, [1.5], ["5"], [True], None, 5],
}

GOOD_HEADERS = [
    {},
    {"Content-Type": "application/json", "Accept": "*/*", "APP_ID": "12", "Authorization": "Bearer a b"},
    {f"X-{number}": "v" for number in range(20)},
]
BAD_HEADERS = [
    None,
    [],
    "X-A: b",
    {"Host": "evil.example"},
    {"X-Forwarded-For": "1.2.3.4"},
    {"CL-X-TOKEN": "a"},
    {"X A": "b"},
    {"": "b"},
    {"X-A": ""},
    {"X-A": "a\r\nX-B: c"},
    {"X-A": "é"},
    {"X-A": "a\x7f"},
    {"X-A": 5},
    {"X-A": None},
    {"X-A": "a", "x-a": "b"},
    {"X-\ud800": "b"},
    {f"X-{number}": "v" for number in range(21)},
    {"X-A": "a" * 16_384},
]


def cases(table: dict) -> list:
    return [(*place, value) for place, values in table.items() for value in values]
