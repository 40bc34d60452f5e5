"""Bounds of the listening side: everything that a client can make grow."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AcceptOptions:
    """Per listener. Times are seconds, sizes bytes."""

    udp_batch: int = 32  # datagrams per wake-up: 32 x 7 us is within the first duration bucket, 250 us
    udp_batch_compiled: int = 64  # of the compiled lane: 64 x 5 us; hits are looked up and sent together
    udp_answer_max_bytes: int = 1232  # RFC 9715 section 3: stay below any path's MTU
    receive_buffer_bytes: int = 4 * 1024 * 1024  # about 5,000 small datagrams as the kernel counts them
    tcp_connections_max: int = 4096  # x about 4 KiB each: 16 MiB
    tcp_connections_per_client: int = 256
    tcp_pipelined_max: int = 128  # questions of one connection that wait for upstream; then we stop reading
    tcp_unsent_max_bytes: int = 64 * 1024  # unsent answers of one connection; then we stop reading
    tcp_idle_s: float = 10.0  # CoreDNS dnsserver idleTimeout
    tcp_read_s: float = 3.0  # a question that has begun must be whole after this
    tcp_write_s: float = 5.0  # a client that does not read is closed after this
