"""`ready [ADDRESS] { monitor ... }`: `/ready` over HTTP (CoreDNS plugin/ready). `status/ready.py` serves it."""

from resolver.settings import values
from resolver.settings.arguments import Option, Where, choice, count_arguments, read_block, value
from resolver.settings.corefile import Statement
from resolver.status.options import ReadyOptions

FORM = "ready [HOST:PORT]"

OPTIONS = {
    "monitor": Option("monitor until-ready|continuously", choice("monitor", ["until-ready", "continuously"]))
}


def read(statement: Statement, where: Where) -> ReadyOptions:
    """Return the block's readiness endpoint."""
    address = ReadyOptions().address
    for word in count_arguments(statement, 0, 1, FORM):
        address = values.joined(*value(word, values.host_port, FORM))
    return ReadyOptions(address=address, **read_block(statement, OPTIONS))
