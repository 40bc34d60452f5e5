"""`health [ADDRESS] { lameduck DURATION }`: `/health` over HTTP (CoreDNS plugin/health).

`status/health.py` serves it. Unlike CoreDNS's, ours says OK only while a question through the real socket is
answered.
"""

from resolver.settings import values
from resolver.settings.arguments import Option, Where, count_arguments, duration, read_block, value
from resolver.settings.corefile import Statement
from resolver.status.options import HealthOptions

FORM = "health [HOST:PORT]"
_LAMEDUCK_MAX_S = 3600.0  # kubelet kills after terminationGracePeriodSeconds, 30 s by default

OPTIONS = {"lameduck": Option("lameduck DURATION", duration("lameduck_s", most_s=_LAMEDUCK_MAX_S))}


def read(statement: Statement, where: Where) -> HealthOptions:
    """Return the block's health endpoint."""
    address = HealthOptions().address
    for word in count_arguments(statement, 0, 1, FORM):
        address = values.joined(*value(word, values.host_port, FORM))
    return HealthOptions(address=address, **read_block(statement, OPTIONS))
