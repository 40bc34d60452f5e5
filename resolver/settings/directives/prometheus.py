"""`prometheus [ADDRESS] { ... }`: metrics over HTTP (CoreDNS plugin/metrics).

`status/exposition.py` serves them.
"""

from resolver.settings import values
from resolver.settings.arguments import (
    Fields,
    Option,
    Where,
    count_arguments,
    flag,
    read_block,
    value,
    wrong,
)
from resolver.settings.corefile import Statement
from resolver.status.options import PrometheusOptions

FORM = "prometheus [HOST:PORT]"


def _tls(line: Statement, form: str) -> Fields:
    raise wrong(line.word, "metrics over TLS are not offered; put a proxy in front", "runtime_metrics")


OPTIONS = {
    "runtime_metrics": Option("runtime_metrics", flag("runtime_metrics")),
    "tls": Option("tls FILE", _tls, offered=False),
}


def read(statement: Statement, where: Where) -> PrometheusOptions:
    """Return the block's metrics endpoint."""
    address = PrometheusOptions().address
    for word in count_arguments(statement, 0, 1, FORM):
        address = values.joined(*value(word, values.host_port, FORM))
    return PrometheusOptions(address=address, **read_block(statement, OPTIONS))
