"""The zones that a real upstream serves in tests, as master files (RFC 1035 section 5).

`ALL` is what `unbound.running()` serves by default. Names worth asking for:

- `web.shop.svc.cluster.local.` A and AAAA, `headless.shop...` several A, `_http._tcp.web.shop...` SRV,
  their PTRs; negative answers with a 5 s SOA, as kube-dns gives them.
- `host0.example.com.` to `host999...` A, AAAA (TTL 300); `alias.`, `chain.` CNAMEs of 1 and 4 steps;
  `dangling.` a CNAME to a name that does not exist; `short.` TTL 3; `one.` TTL 1; `many.` 100 A;
  `big.` 4,000 bytes of TXT; `txtonly.` NODATA for A; anything else NXDOMAIN (negative TTL 60).
- `signed.example.`: a signed zone: `www.` A and AAAA, `alias.` CNAME, `text.` TXT, `*.wild.` A, with RRSIG
  and NSEC for clients with DO.
- every other name: NXDOMAIN from a small root zone.
"""

from pathlib import Path

HOSTS = 1000

_CLUSTER_LOCAL = """\
$ORIGIN cluster.local.
@                          5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
@                          5 IN NS ns.dns
ns.dns                     5 IN A 10.96.0.10
kubernetes.default.svc     5 IN A 10.96.0.1
kube-dns.kube-system.svc   5 IN A 10.96.0.10
web.shop.svc              30 IN A 10.96.7.7
web.shop.svc              30 IN AAAA fd00:10:96::7
_http._tcp.web.shop.svc   30 IN SRV 0 50 80 web.shop.svc
headless.shop.svc         30 IN A 10.244.1.5
headless.shop.svc         30 IN A 10.244.2.6
headless.shop.svc         30 IN A 10.244.3.7
outside.shop.svc          30 IN CNAME host1.example.com.
"""

_REVERSE_V4 = """\
$ORIGIN in-addr.arpa.
@             30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@             30 IN NS ns.dns.cluster.local.
7.7.96.10     30 IN PTR web.shop.svc.cluster.local.
10.0.96.10    30 IN PTR kube-dns.kube-system.svc.cluster.local.
"""

_REVERSE_V6 = """\
$ORIGIN ip6.arpa.
@  30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
@  30 IN NS ns.dns.cluster.local.
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f 30 IN PTR web.shop.svc.cluster.local.
"""

_EXAMPLE_COM = """\
$ORIGIN example.com.
@          3600 IN SOA ns h 1 7200 1800 86400 60
@          3600 IN NS ns
@          3600 IN MX 10 host1
ns         3600 IN A 192.0.2.53
short         3 IN A 192.0.2.3
one           1 IN A 192.0.2.1
txtonly     300 IN TXT "only this"
alias       300 IN CNAME host1
chain       300 IN CNAME chain2
chain2      200 IN CNAME chain3
chain3      100 IN CNAME chain4
chain4       50 IN CNAME host4
dangling    300 IN CNAME nowhere
*.wild       60 IN A 10.9.8.7
"""

ROOT = """\
.  86400 IN SOA a.root. nobody.root. 1 1800 900 604800 60
.  86400 IN NS a.root.
a.root.  86400 IN A 192.0.2.254
"""


def _example_com() -> str:
    lines = [_EXAMPLE_COM]
    for number in range(HOSTS):
        lines.append(f"host{number} 300 IN A 93.184.{number // 250}.{1 + number % 250}\n")
        lines.append(f"host{number} 300 IN AAAA 2606:2800::{number + 1:x}\n")
    lines += [f"many 300 IN A 198.51.100.{number}\n" for number in range(1, 101)]
    lines += [f'big 300 IN TXT "{letter * 200}"\n' for letter in "abcdefghijklmnopqrst"]
    return "".join(lines)


ALL: dict[str, str] = {
    ".": ROOT,
    "cluster.local.": _CLUSTER_LOCAL,
    "in-addr.arpa.": _REVERSE_V4,
    "ip6.arpa.": _REVERSE_V6,
    "example.com.": _example_com(),
    "signed.example.": Path(__file__).with_name("signed.example.zone").read_text(),
}
"""Zone name to master-file text."""
