"""Which URLs may be destinations: one strict reading, and everything ambiguous refused."""

import string

import httpx
import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from guard import urls
from guard.addresses import Policy

PUBLIC = Policy()
ALL = Policy(["0.0.0.0/0", "::/0"], ipv6=True)

ACCEPTED = [
    ("https://hooks.site.com/in", "an ordinary one"),
    ("http://hooks.site.com", "without a path"),
    ("http://hooks.site.com?a=1", "a query without a path"),
    ("HTTPS://Hooks.Site.COM/In?A=b", "upper case"),
    ("https://hooks.site.com:8443/in", "a high port"),
    ("https://hooks.site.com:80/", "80 for https"),
    ("http://1.1.1.1/", "a public address"),
    ("https://my_host.site.com/", "an underscore"),
    ("https://xn--bcher-kva.com/", "an international name, encoded"),
    ("https://site.com/a%2Fb?q=%C3%A9&x[]=1", "encoded characters, brackets in the query"),
    ("https://site.com/" + "a" * (2048 - len("https://site.com/")), "as long as may be"),
    ("https://example.com/", "only the top-level name `example` is reserved"),
    ("https://local.site.com/", "reserved words inside are just words"),
    ("https://3com.com/", "a label that begins with a digit"),
    ("https://site.0a/", "a last label that only begins like a number"),
]

REFUSED = [
    ("", "nothing"),
    ("hooks.site.com", "no scheme"),
    ("//site.com/", "no scheme"),
    ("ftp://site.com/", "another scheme"),
    ("file:///etc/passwd", "another scheme"),
    ("javascript:alert(1)", "another scheme"),
    ("http:/site.com/", "one slash"),
    ("http:///site.com/", "no host"),
    ("http://", "no host"),
    ("http://site.com/" + "a" * 2048, "too long"),
    ("http://user@site.com/", "user name"),
    ("http://user:secret@site.com/", "password"),
    ("http://site.com@10.0.0.1/", "a host that looks like a user name"),
    ("http://site.com/#top", "fragment"),
    ("http://1.1.1.1#@site.com/", "a fragment that hides the host"),
    ("http://site.com\\@10.0.0.1/", "backslash"),
    ("http://site.com\\.internal/", "backslash"),
    ("http:\\\\site.com\\", "backslashes for slashes"),
    ("http://si te.com/", "space"),
    ("http://site.com/a b", "space in the path: it would end the request line"),
    (" http://site.com/", "leading space"),
    ("http://site.com/\r\nX-Injected: 1", "line end"),
    ("http://site.com/\t", "tab (urlsplit removes it)"),
    ("http://site.com/\x00", "NUL"),
    ("http://site.com/\x7f", "DEL"),
    ("http://site.com/%00", "encoded NUL"),
    ("http://site.com/?a=%0d%0ab", "encoded line end"),
    ("http://site.com/%zz", "half an escape"),
    ("http://site.com/%4", "half an escape"),
    ("http://site.com/é", "not ASCII"),
    ("http://sité.com/", "not ASCII"),
    ("http://site\u3002com/", "an ideographic full stop, a dot to IDNA"),
    ("http://①②⑦.com/", "digits by compatibility"),
    ("http://site.com/{id}", "braces"),
    ('http://site.com/"', "quote"),
    ("http://site.com/<a>", "angle brackets"),
    ("http://site.com/a|b", "bar"),
    ("http://site.com/a^b", "circumflex"),
    ("http://site.com/a`b", "backquote"),
    ("http://%73ite.com/", "an escape in the host"),
    ("http://127%2e0.0.1/", "an escaped dot"),
    ("http://2130706433/", "127.0.0.1 in decimal"),
    ("http://0x7f000001/", "in hexadecimal"),
    ("http://0x7f.1/", "in parts"),
    ("http://0X7F.0X0.0X0.0X1/", "in upper case"),
    ("http://0177.0.0.1/", "in octal"),
    ("http://127.1/", "short"),
    ("http://0/", "0.0.0.0"),
    ("http://127.0.0.1./", "with a dot at the end"),
    ("http://1.1.1.256/", "no such address"),
    ("http://1.1.1.1.1/", "five parts"),
    ("http://site.com.1/", "a numeric last label"),
    ("http://site.0x1/", "a hexadecimal last label"),
    ("http://127.0.0.1/", "loopback"),
    ("http://169.254.169.254/latest/meta-data/", "metadata"),
    ("http://[::1]/", "IPv6 loopback"),
    ("http://[2606:4700:4700::1111]/", "IPv6 is off"),
    ("http://[fe80::1%25eth0]/", "zone"),
    ("http://[::ffff:1.1.1.1]/", "mapped"),
    ("http://[v1.fe]/", "a future address"),
    ("http://[1.1.1.1]/", "IPv4 in brackets"),
    ("http://[::1/", "half a bracket"),
    ("http://::1/", "IPv6 without brackets"),
    ("http://site.com:0/", "port 0"),
    ("http://site.com:22/", "ssh"),
    ("http://site.com:25/", "mail"),
    ("http://site.com:1023/", "below 1024"),
    ("http://site.com:65536/", "no such port (httpx takes it)"),
    ("http://site.com:99999/", "no such port"),
    ("http://site.com:-1/", "no such port"),
    ("http://site.com:080/", "a leading zero"),
    ("http://site.com:/", "no port after the colon"),
    ("http://site.com:8\uff10/", "full-width digit"),
    ("http://site.com:80:80/", "two ports"),
    ("http://site.com:5432/", "PostgreSQL"),
    ("http://site.com:3306/", "MySQL"),
    ("http://site.com:6379/", "Redis"),
    ("http://site.com:11211/", "memcached"),
    ("http://site.com:27017/", "MongoDB"),
    ("http://site.com:9200/", "Elasticsearch"),
    ("http://site.com:2375/", "Docker"),
    ("http://site.com:2379/", "etcd"),
    ("http://site.com:10250/", "kubelet"),
    ("http://site.com:6667/", "IRC, as browsers"),
    ("http://site/", "one label"),
    ("http://localhost/", "local"),
    ("http://app.localhost/", "local"),
    ("http://localhost.localdomain/", "local, as many a hosts file says"),
    ("http://printer.local/", "multicast DNS"),
    ("http://metadata.google.internal/", "metadata at Google"),
    ("http://nas.lan/", "local network"),
    ("http://nas.home/", "local network"),
    ("http://git.corp/", "local network"),
    ("http://git.private/", "local network"),
    ("http://nas.home.arpa/", "local network"),
    ("http://1.0.0.127.in-addr.arpa/", "infrastructure"),
    ("http://abc.onion/", "not in the DNS"),
    ("http://a.test/", "reserved"),
    ("http://a.example/", "reserved"),
    ("http://a.invalid/", "reserved"),
    ("http://api.default.svc/", "Kubernetes"),
    ("http://api.default.svc.cluster.local/", "Kubernetes"),
    ("http://SITE.LOCAL/", "in upper case"),
    ("http://site.com./", "a dot at the end"),
    ("http://site..com/", "an empty label"),
    ("http://.site.com/", "an empty label"),
    ("http://-site.com/", "a hyphen first"),
    ("http://site-.com/", "a hyphen last"),
    ("http://" + "a" * 64 + ".com/", "a label too long"),
    ("http://" + "a." * 126 + "com/", "a name too long"),
    ("http://xn--/", "an empty international label"),
    ("http://xn--.com/", "an empty international label"),
    ("http://xn--abc-.com/", "an international label without one such letter"),
    ("http://si;te.com/", "a semicolon"),
    ("http://si,te.com/", "a comma"),
]


@pytest.mark.parametrize(("url", "why"), ACCEPTED, ids=[why for _, why in ACCEPTED])
def test_an_honest_url_is_accepted(url, why):
    assert urls.check(url, PUBLIC), why


@pytest.mark.parametrize(("url", "why"), REFUSED, ids=[f"{why}-{url[:30]}" for url, why in REFUSED])
def test_a_doubtful_url_is_refused(url, why):
    with pytest.raises(urls.Refused) as refused:
        urls.check(url, PUBLIC)
    assert refused.value.reason, why


def test_a_url_is_read_into_its_parts():
    assert urls.check("HTTP://Site.Com:8080?A=%41", PUBLIC) == urls.Url("http", "site.com", 8080, "/?A=%41")
    assert urls.check("https://site.com/a/../b", PUBLIC) == urls.Url("https", "site.com", 443, "/a/../b")
    assert urls.check("http://[::1]:9000/", ALL) == urls.Url("http", "::1", 9000, "/")


def test_a_denied_literal_address_is_told_from_a_malformed_url():
    with pytest.raises(urls.AddressRefused):
        urls.check("http://10.0.0.1/", PUBLIC)
    with pytest.raises(urls.AddressRefused):
        urls.check("http://[::1]/", PUBLIC)
    with pytest.raises(urls.Refused) as refused:
        urls.check("http://0x7f.1/", PUBLIC)
    assert type(refused.value) is urls.Refused


def test_an_opened_address_is_accepted_on_its_port_only():
    policy = Policy(["127.0.0.1/32:9000"])
    assert urls.check("http://127.0.0.1:9000/", policy).port == 9000
    with pytest.raises(urls.AddressRefused):
        urls.check("http://127.0.0.1:9001/", policy)


hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.lists(st.text("abcXYZ019-_", min_size=1, max_size=8), min_size=2, max_size=4).map(".".join),
)
ports = st.one_of(st.just(""), st.integers(0, 70_000).map(lambda port: f":{port}"))
targets = st.text(string.ascii_letters + string.digits + "/?&=%[]@:;+,!$'()*~.-_", max_size=40).map(
    "/".__add__
)
likely = st.builds(
    lambda *parts: "".join(parts), st.sampled_from(["http://", "https://"]), hosts, ports, targets
)


@given(url=likely)
@example(url="http://site.com/@10.0.0.1:80/?http://10.0.0.1/")
def test_an_accepted_url_has_the_same_host_for_every_parser(url):
    try:
        checked = urls.check(url, ALL)
    except urls.Refused:
        return
    again = str(checked)
    assert urls.check(again, ALL) == checked
    written = yarl.URL(again, encoded=True)
    assert (written.scheme, written.raw_host, written.port) == (checked.scheme, checked.host, checked.port)
    assert written.raw_path_qs == checked.target or checked.target.endswith("?")
    parsed = httpx.URL(again)
    assert parsed.host == yarl.URL(again).host
    assert (parsed.port or urls.DEFAULT_PORTS[parsed.scheme]) == checked.port


@given(url=st.one_of(st.text(), st.text(string.printable), st.from_regex(r"https?://.*", fullmatch=True)))
def test_any_text_is_accepted_or_refused_and_nothing_else(url):
    try:
        checked = urls.check(url, ALL)
    except urls.Refused:
        return
    assert checked.scheme in ("http", "https")
    assert checked.host
