"""Single words: durations, numbers, sizes, addresses."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.settings import values
from tests.settings.support import attempt

#        word, seconds
DURATIONS = [
    ("10s", 10.0),
    ("1h30m", 5400.0),
    ("500ms", 0.5),
    ("1.5h", 5400.0),
    (".5s", 0.5),
    ("1.s", 1.0),
    ("250us", 0.00025),
    ("250µs", 0.00025),
    ("250μs", 0.00025),
    ("7ns", 7e-9),
    ("0", 0.0),
    ("0s", 0.0),
    ("+1s", 1.0),
    ("-1s", -1.0),
    ("1m1m", 120.0),
]


@pytest.mark.parametrize(("word", "seconds"), DURATIONS)
def test_durations_are_gos(word: str, seconds: float) -> None:
    assert values.duration_s(word) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "word", ["", "10", "s", ".", ".s", "1d", "1 s", "10S", "٣s", "1_0s", "--1s", "1e3s", "3000000h", "1" * 70 + "s"]
)
def test_what_go_refuses_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.duration_s(word)


@given(micros=st.integers(0, 10**12))
def test_a_duration_written_is_the_duration_read(micros: int) -> None:
    assert values.duration_s(values.duration_text(micros / 1e6)) == pytest.approx(micros / 1e6, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (0.0015, "1500us"), (5400, "1h30m"), (61.5, "1m1.5s"), (-2, "-2s"), (3600, "1h")],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert values.duration_text(seconds) == text


@pytest.mark.parametrize(("word", "number"), [("0", 0), ("30", 30), ("+5", 5), ("-5", -5), ("007", 7)])
def test_whole_numbers(word: str, number: int) -> None:
    assert values.integer(word) == number


@pytest.mark.parametrize("word", ["", "1.0", "٣", "1_000", " 1", "1 ", "0x10", "1" * 20, "+-1"])
def test_no_whole_numbers(word: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        values.integer(word)


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("1048576", 2**20),
        ("64MiB", 2**26),
        ("100Mi", 100 * 2**20),
        ("1Gi", 2**30),
        ("512KiB", 2**19),
        ("64MB", 64_000_000),
        ("64M", 64_000_000),
        ("10k", 10_000),
        ("5B", 5),
    ],
)
def test_sizes(word: str, size: int) -> None:
    assert values.size_bytes(word) == size


@pytest.mark.parametrize("word", ["", "MiB", "-1", "1.5Gi", "1 Mi", "64MiBs", "1Ti", "٣Mi"])
def test_no_sizes(word: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        values.size_bytes(word)


@pytest.mark.parametrize(
    ("size", "text"), [(2**26, "64MiB"), (2**30, "1GiB"), (1536, "1536 bytes"), (3 * 2**10, "3KiB"), (0, "0 bytes")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert values.size_text(size) == text


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_addresses_have_one_spelling(word: str, address: str) -> None:
    assert values.ip(word) == address


@pytest.mark.parametrize("word", ["", "10.0.0", "010.0.0.1", "10.0.0.256", "localhost", "1.2.3.4/8", "[::1]"])
def test_no_addresses(word: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        values.ip(word)


@pytest.mark.parametrize(
    ("word", "host", "port"),
    [
        (":8080", "", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:9153", "localhost", 9153),
        ("[::1]:80", "::1", 80),
    ],
)
def test_host_and_port(word: str, host: str, port: int) -> None:
    assert values.host_port(word) == (host, port)


@pytest.mark.parametrize("word", ["", "8080", "a:", "a:b", "::1", "a b:1", "[::1]80", "a:65536", "[a]:1", "a:٣"])
def test_no_host_and_port(word: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        values.host_port(word)


@given(host=st.sampled_from(["", "10.0.0.1", "::1", "localhost"]), port=st.integers(0, 65535))
def test_joined_is_split_again(host: str, port: int) -> None:
    assert values.host_port(values.joined(host, port)) == (host, port)


@given(word=st.text(max_size=100))
def test_any_word_gives_a_value_or_a_value_error_on_one_line(word: str) -> None:
    for read in (values.duration_s, values.integer, values.size_bytes, values.port, values.ip, values.host_port):
        attempt(partial(read, word), ValueError)
