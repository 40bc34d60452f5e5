"""Both lanes, side by side, over whatever bytes arrive: the same answers, the same counts, and nothing raised.

`test_lane_sanitized` runs this file again against a lane built with AddressSanitizer and UBSan.
"""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.accept.compiled import CompiledUdpListener
from resolver.accept.packets import PacketCache
from resolver.accept.udp import UdpListener
from tests.accept.lane import Bench, orders_of, query

KNOWN = [
    query("web.example."),
    query("a.", "AAAA"),
    query("web.example.", use_edns=0),
    query("x" * 60 + ".example.", use_edns=0, want_dnssec=True),
]
ORDERS = [3, 1, 2, 1]
"""In how many orders the answer to each is known: more than one is a ring."""

MISS_ANSWER = b"\0\0\x81\x80 answered by the pipeline"

datagrams = st.lists(
    st.one_of(
        st.sampled_from(KNOWN),
        st.sampled_from(KNOWN).flatmap(lambda wire: st.integers(0, len(wire)).map(lambda end: wire[:end])),
        st.tuples(st.sampled_from(KNOWN), st.integers(0, 40), st.integers(0, 255)).map(
            lambda change: change[0][: change[1]] + bytes((change[2],)) + change[0][change[1] + 1 :]
        ),
        st.binary(max_size=64),
        st.binary(min_size=4090, max_size=4200),
    ),
    max_size=24,
)

# What happens between two batches: seconds that pass, and whether lives end.
pauses = st.lists(st.tuples(st.floats(0, 40), st.booleans()), min_size=1, max_size=4)


def run(
    lane: type[UdpListener], wires: list[bytes], steps: list[tuple[float, bool]], ttl_s: int, floor_s: int
) -> tuple[list[bytes], tuple[int, ...]]:
    """Send everything through one lane, step by step; return what the client got and what was counted."""
    got: list[bytes] = []
    with Bench((lane, partial(PacketCache, new_table=lane.new_table))) as bench:
        bench.reply = lambda wire: wire[:2] + MISS_ANSWER if len(wire) % 2 else None
        kept = []
        for wire, number in zip(KNOWN, ORDERS, strict=True):
            first, *others = orders_of(wire, ttl_s, addresses=3, orders=number)
            kept.append(bench.keep(wire, first, floor_s=floor_s, others=others))
        for pause_s, ends in steps:
            bench.clock.now_s += pause_s
            if ends:
                kept[0][0].until_s = 0.0
            for wire in wires:
                bench.client.send(wire)
            while True:
                before = bench.listener.received
                bench.listener.drain()
                if bench.listener.received == before:
                    break
            answers = []
            while (answer := bench.received()) is not None:
                answers.append(answer)
            # The compiled lane sends the hits of a batch before its misses; among each other both keep their order.
            got += sorted(answers, key=lambda answer: answer.endswith(MISS_ANSWER))
        series = kept[0][1]
        counts = (
            bench.listener.received,
            bench.listener.send_failures,
            series.uses,
            series.request_bytes,
            series.response_bytes,
            *(life.uses for life, _ in kept),
            len(bench.passed_up),
        )
    return got, counts


@settings(deadline=None)
@given(wires=datagrams, steps=pauses, ttl_s=st.integers(0, 2**31 - 1), floor_s=st.sampled_from([0, 1]))
def test_the_lanes_cannot_be_told_apart(
    wires: list[bytes], steps: list[tuple[float, bool]], ttl_s: int, floor_s: int
) -> None:
    assert run(CompiledUdpListener, wires, steps, ttl_s, floor_s) == run(UdpListener, wires, steps, ttl_s, floor_s)
