"""Keys and zones: names, networks, schemes, ports."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.settings import zones
from tests.settings.support import attempt

#        key, zones, port
KEYS = [
    pytest.param(".", (".",), 53, id="all names, default port"),
    pytest.param("Example.ORG", ("example.org.",), 53, id="lower case, with a dot"),
    pytest.param("example.org.:5300", ("example.org.",), 5300, id="port"),
    pytest.param(".:0", (".",), 0, id="port of the kernel's choice"),
    pytest.param("dns://example.org", ("example.org.",), 53, id="scheme"),
    pytest.param("DNS://example.org:1053", ("example.org.",), 1053, id="scheme and port"),
    pytest.param("10.0.0.0/24", ("0.0.10.in-addr.arpa.",), 53, id="network"),
    pytest.param("10.0.0.0/24:5300", ("0.0.10.in-addr.arpa.",), 5300, id="network and port"),
    pytest.param("10.1.2.3/8", ("10.in-addr.arpa.",), 53, id="host bits are masked"),
    pytest.param("0.0.0.0/0", ("in-addr.arpa.",), 53, id="the whole of IPv4"),
    pytest.param(
        "10.0.0.0/22",
        ("0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa.", "2.0.10.in-addr.arpa.", "3.0.10.in-addr.arpa."),
        53,
        id="off the octet there are several",
    ),
    pytest.param("2001:db8::/32", ("8.b.d.0.1.0.0.2.ip6.arpa.",), 53, id="IPv6 network"),
    pytest.param("2001:db8::/32:53", ("8.b.d.0.1.0.0.2.ip6.arpa.",), 53, id="IPv6 network and port"),
    pytest.param(
        "2001:db8::/31",
        ("8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."),
        53,
        id="off the nibble there are several",
    ),
    pytest.param("0/25.2.0.192.in-addr.arpa", ("0/25.2.0.192.in-addr.arpa.",), 53, id="a name of RFC 2317"),
    pytest.param(r"\097.org", ("a.org.",), 53, id="escapes have one spelling"),
    pytest.param("_dmarc.example", ("_dmarc.example.",), 53, id="underscores"),
]


@pytest.mark.parametrize(("word", "names", "port"), KEYS)
def test_keys(word: str, names: tuple[str, ...], port: int) -> None:
    assert zones.key(word, 53) == zones.Key(names, port)


#        key, what is said
BAD_KEYS = [
    ("example.org:", "nothing behind its last colon"),
    (":53", "names no zone"),
    ("example.org:65536", "not a port"),
    ("example.org:abc", "not a port"),
    ("tls://example.org", "serving tls:// comes with a later release"),
    ("https://example.org", "serving https:// comes with a later release"),
    ("grpc://.", "serving grpc:// comes with a later release"),
    ("quic://.", "serving quic:// comes with a later release"),
    ("ftp://example.org", "unknown scheme"),
    ("10.0.0.0/33", "not a network"),
    ("10.0.0/24", "not a network"),
    ("a..b", "empty label"),
    ("a" * 64 + ".org", "at most 63"),
    (".".join(["a" * 60] * 5), "longer than 255"),
    ("exämple.org", "outside ASCII"),
    ("a b", "not a domain name"),
]


@pytest.mark.parametrize(("word", "problem"), BAD_KEYS)
def test_bad_keys(word: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        zones.key(word, 53)


@given(
    network=st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
            lambda pair: ipaddress.IPv4Network(pair, False)
        ),
        st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
            lambda pair: ipaddress.IPv6Network(pair, False)
        ),
    ),
    inside=st.integers(0, 2**128),
    beside=st.integers(0, 2**128 - 1),
)
def test_reverse_zones_hold_exactly_the_addresses_of_their_network(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, inside: int, beside: int
) -> None:
    found = zones.expand(str(network))
    assert len(found) <= 128
    member = network[inside % network.num_addresses]
    other = type(member)(beside % 2**network.max_prefixlen)
    for address in (member, other):
        reverse = "." + address.reverse_pointer + "."
        assert any(reverse.endswith("." + zone) for zone in found) == (address in network)


@given(word=st.text(max_size=300))
def test_any_word_is_a_key_or_a_value_error(word: str) -> None:
    found = attempt(lambda: zones.key(word, 53), ValueError)
    assert found is None or all(
        zone.endswith(".") and zone == zone.lower() and zone.isascii() for zone in found.zones
    )
