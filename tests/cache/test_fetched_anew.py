"""An answer that repeats what is known goes on with its life; any other begins a new one."""

import struct

import dns.message
import dns.rcode
import dns.rrset
import pytest

from resolver.cache.cache import Cache
from resolver.cache.entry import Entry, Kind
from resolver.cache.ledger import Ledger
from resolver.cache.lifetime import decide
from resolver.cache.options import CacheOptions
from resolver.wire.header import CLASS_IN
from resolver.wire.names import from_text
from resolver.wire.ttls import scan

NAME = "web.example."
KEY = from_text(NAME) + struct.pack(">HH", 1, CLASS_IN) + b"\0"
NOW_S = 1000.0


def answer(*records: str, rcode: int = 0) -> bytes:
    """An answer to A for NAME; a record of type SOA stands in the authority section."""
    message = dns.message.make_response(dns.message.make_query(NAME, "A"))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        name, ttl, _, rdtype, *rdata = record.split()
        section = message.authority if rdtype == "SOA" else message.answer
        section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, " ".join(rdata)))
    return message.to_wire()


def address(ttl_s: int, ending: int = 7) -> bytes:
    return answer(f"{NAME} {ttl_s} IN A 192.0.2.{ending}")


def denial(ttl_s: int) -> bytes:
    return answer(f"example. {ttl_s} IN SOA ns.example. host.example. 1 7200 900 86400 {3600}", rcode=3)


def chain(first_s: int, second_s: int) -> bytes:
    return answer(f"{NAME} {first_s} IN CNAME w.example.", f"w.example. {second_s} IN A 192.0.2.7")


def put(cache: Cache, packet: bytes, now_s: float) -> Entry:
    """Keep what came from upstream at `now_s`."""
    found = scan(packet)
    return cache.put(KEY, found, decide(found, 1, cache.options), now_s)


def cache(**options: object) -> Cache:
    return Cache(CacheOptions(**options), Ledger(10**6))  # type: ignore[arg-type] # the tests name them


#         known, the same later, how many seconds lower its TTLs are
SAME = [
    pytest.param(address(30), address(30), 0, id="an authority's"),
    pytest.param(address(30), address(12), 18, id="a cache's"),
    pytest.param(address(12), address(30), -18, id="a cache's that was fetched anew there"),
    pytest.param(denial(30), denial(30), 0, id="a denial"),
    pytest.param(denial(30), denial(12), 18, id="a cache's denial"),
    pytest.param(chain(300, 30), chain(290, 20), 10, id="a chain that counts down together"),
]


@pytest.mark.parametrize(("known", "later", "lower_s"), SAME)
def test_the_same_again_goes_on_with_its_life(known: bytes, later: bytes, lower_s: int) -> None:
    kept = cache()
    first = put(kept, known, NOW_S)
    first.life.uses, first.life.used_s = 5, NOW_S + 3
    again = put(kept, later, NOW_S + 40)
    smallest_s = scan(later).min_ttl_s
    assert smallest_s is not None
    assert again.life is first.life
    assert again.packet[2:] == later[2:]
    assert (again.stored_s, again.life.stored_s) == (NOW_S + 40, NOW_S + 40 - lower_s)
    assert again.expires_s == NOW_S + 40 + smallest_s
    assert again.ttl_s == smallest_s
    assert (again.life.uses, again.life.used_s, again.life.until_s) == (5, NOW_S + 3, again.expires_s)
    assert kept.find(KEY, NOW_S + 41) is again
    assert kept.success.ledger.used_bytes == again.size_bytes


def test_upstreams_id_is_no_difference() -> None:
    kept = cache()
    first = put(kept, address(30), NOW_S)
    assert put(kept, b"\x55\x66" + address(30)[2:], NOW_S + 31).life is first.life


def test_it_goes_on_and_on() -> None:
    kept = cache()
    first = put(kept, address(30), NOW_S)
    for number, ttl_s in enumerate((5, 30, 7, 29)):
        now_s = NOW_S + 100 * number
        again = put(kept, address(ttl_s), now_s)
        assert again.life is first.life
        assert (again.stored_s, again.life.stored_s) == (now_s, now_s - (30 - ttl_s))


def test_what_is_prefetched_has_its_window_again() -> None:
    kept = cache(prefetch_amount=1)
    first = put(kept, address(30), NOW_S)
    first.life.until_s = first.expires_s  # an asker came in the window
    again = put(kept, address(30), NOW_S + 28)
    assert again.life is first.life
    assert again.life.until_s == NOW_S + 28 + 27


OTHERS = [
    pytest.param(address(30), address(30, ending=8), id="another address"),
    pytest.param(address(30), address(12, ending=8), id="another address, a lower TTL"),
    pytest.param(address(30), answer(f"{NAME} 30 IN A 192.0.2.7", f"{NAME} 30 IN A 192.0.2.8"), id="one more"),
    pytest.param(chain(300, 30), chain(290, 30), id="a chain of which one part has counted down"),
    pytest.param(chain(300, 20), chain(290, 30), id="a chain of which one part is whole again"),
    pytest.param(chain(300, 30), chain(290, 25), id="a chain whose parts have their own pace"),
    pytest.param(address(30), denial(30), id="no such name"),
]


@pytest.mark.parametrize(("known", "later"), OTHERS)
def test_any_other_begins_a_new_life(known: bytes, later: bytes) -> None:
    kept = cache()
    first = put(kept, known, NOW_S)
    again = put(kept, later, NOW_S + 5)
    assert again.life is not first.life
    assert first.life.until_s == 0.0
    assert again.stored_s == again.life.stored_s == NOW_S + 5
    assert again.packet[2:] == later[2:]


@pytest.mark.parametrize(
    ("options", "first_s", "later_s"),
    [
        pytest.param({"success_min_ttl_s": 60}, 30, 30, id="the minimum keeps both longer than they count down"),
        pytest.param({"success_min_ttl_s": 20}, 12, 30, id="the minimum kept the first one longer"),
        pytest.param({"success_min_ttl_s": 20}, 30, 12, id="the minimum keeps the second one longer"),
        pytest.param({"keepttl": True}, 30, 12, id="keepttl shows a TTL as it came"),
    ],
)
def test_where_a_rendering_could_not_show_it_a_new_life_begins(
    options: dict[str, object], first_s: int, later_s: int
) -> None:
    kept = cache(**options)
    first = put(kept, address(first_s), NOW_S)
    again = put(kept, address(later_s), NOW_S + 40)
    assert again.life is not first.life
    assert again.stored_s == NOW_S + 40


def test_with_keepttl_the_very_same_goes_on() -> None:
    kept = cache(keepttl=True)
    first = put(kept, address(30), NOW_S)
    assert put(kept, address(30), NOW_S + 40).life is first.life


def test_what_was_flushed_stays_dead() -> None:
    kept = cache()
    first = put(kept, address(30), NOW_S)
    kept.flush()
    first.life.until_s = 0.0  # the ledger does so little by little
    again = put(kept, address(30), NOW_S + 5)
    assert again.life is not first.life
    assert first.life.until_s == 0.0


def test_an_answer_that_may_not_be_kept_leaves_the_known_one_as_it_is() -> None:
    kept = cache(success_min_ttl_s=0)
    first = put(kept, address(30), NOW_S)
    until_s = first.life.until_s
    again = put(kept, address(0), NOW_S + 5)
    assert again.life is not first.life
    assert (first.life.until_s, first.life.stored_s) == (until_s, NOW_S)
    assert kept.success.entries[KEY].kind == Kind.SUCCESS
    assert kept.success.entries[KEY] is first
