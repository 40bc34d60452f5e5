"""The template of node-local-dns becomes a Corefile: `__PILLAR__...__` are filled, in memory.

As node-cache fills them (cmd/node-cache/app/configmap.go updateCorefile), in its order:

    __PILLAR__UPSTREAM__SERVERS__  upstreamNameservers of the kube-dns ConfigMap, else /etc/resolv.conf; with
                                   upstreams of its own, a `forward` block that stands exactly as in the
                                   manifest and says `force_tcp` becomes a plain one
    __PILLAR__CLUSTER__DNS__       the ClusterIP of `-upstreamsvc`, from the pod's environment
    __PILLAR__LOCAL__DNS__         the addresses of `-localip`
    __PILLAR__DNS__SERVER__        nothing: its addresses are among those of `-localip`
    __PROMETHEUS__ENDPOINT__       `-prometheus-listen-address`

Better than node-cache: an address that is not known is an error that names the variable and the remedy (there it
became `<nil>` and a crash loop); `__PILLAR__LOCAL__DNS__` in front of a port is the first address only; and
`__PILLAR__DNS__DOMAIN__`, which the operator's sed should have filled, is `cluster.local`.

Lines keep their numbers, so that messages point into the template that people wrote.
"""

import re
from typing import NamedTuple

from resolver.errors import ConfigError

CLUSTER_DNS = b"__PILLAR__CLUSTER__DNS__"
LOCAL_DNS = b"__PILLAR__LOCAL__DNS__"
DNS_SERVER = b"__PILLAR__DNS__SERVER__"
DNS_DOMAIN = b"__PILLAR__DNS__DOMAIN__"
UPSTREAM_SERVERS = b"__PILLAR__UPSTREAM__SERVERS__"
PROMETHEUS_ENDPOINT = b"__PROMETHEUS__ENDPOINT__"
DEFAULT_DOMAIN = b"cluster.local"

# Exact to the blank, as in node-cache. The two empty lines behind ours keep the numbers of the lines below.
_TCP_BLOCK = b"\n    forward . __PILLAR__UPSTREAM__SERVERS__ {\n            force_tcp\n    }\n"
_UDP_LINE = b"\n    forward . __PILLAR__UPSTREAM__SERVERS__\n\n\n"


class Fillings(NamedTuple):
    """What stands in for the placeholders; empty where it is not known.

    cluster_remedy  How to make `cluster_dns` known, for the message.
    """

    local_ips: tuple[str, ...] = ()
    cluster_dns: str = ""
    upstream_servers: tuple[str, ...] = ()
    prometheus_address: str = ""
    cluster_remedy: str = ""


def has_placeholders(text: bytes) -> bool:
    """Tell whether `text` is a template."""
    return b"__PILLAR__" in text or PROMETHEUS_ENDPOINT in text


def fill(text: bytes, file: str, fillings: Fillings) -> bytes:
    """Return the Corefile that the template stands for; raises ConfigError at the line of what is not known."""
    if not has_placeholders(text):
        return text
    if fillings.upstream_servers:
        text = text.replace(_TCP_BLOCK, _UDP_LINE)
    upstreams = " ".join(fillings.upstream_servers) or "/etc/resolv.conf"
    text = text.replace(UPSTREAM_SERVERS, upstreams.encode())
    if not fillings.cluster_dns:
        _refuse(text, file, CLUSTER_DNS, fillings.cluster_remedy)
    text = text.replace(CLUSTER_DNS, fillings.cluster_dns.encode())
    if not fillings.local_ips:
        _refuse(text, file, LOCAL_DNS, "give the addresses that pods ask with -localip")
    first = next(iter(fillings.local_ips), "")
    bracketed = f"[{first}]" if ":" in first else first
    text = re.sub(re.escape(LOCAL_DNS) + rb"(?=:[0-9])", bracketed.encode(), text)
    text = text.replace(LOCAL_DNS, " ".join(fillings.local_ips).encode())
    text = text.replace(DNS_SERVER, b"")
    text = text.replace(DNS_DOMAIN, DEFAULT_DOMAIN)
    return text.replace(PROMETHEUS_ENDPOINT, fillings.prometheus_address.encode())


def _refuse(text: bytes, file: str, placeholder: bytes, remedy: str) -> None:
    """Raise if `placeholder` stands outside a comment."""
    for number, line in enumerate(text.split(b"\n"), start=1):
        if placeholder in line.partition(b"#")[0]:
            raise ConfigError(file, number, f"{placeholder.decode()} has no value; {remedy}")
