"""A day in a cluster: what pods ask when every lookup goes through `ndots:5` and a search list.

A lookup asks for A and AAAA at once, and for each candidate of the search list in turn until one exists. 95 % of
lookups are for Services of the cluster, most under their short names; 5 % are for names outside, which fail
through the whole search list first. Popularity is Zipf's. TTLs are CoreDNS's for the cluster (5 s) and 30 s
outside. Pure: the same number of questions is the same list.
"""

import random
from collections.abc import Iterator

from perf.questions import ADDRESS, ADDRESS6, NXDOMAIN, Ask, zipf

SERVICES, NAMESPACES, EXTERNAL = 300, 10, 200
EXTERNAL_SHARE = 0.05
DOMAIN = "cluster.local"
NDOTS = 5

# How an application writes a Service's name: in its own namespace, with namespace, in full; and how often.
FORMS = ((0.5, "{service}"), (0.4, "{service}.{namespace}"), (0.1, "{service}.{namespace}.svc." + DOMAIN))


def zones() -> dict[str, str]:
    """The zones that answer a day: a Service has A only, as in most clusters; outside there is AAAA, too."""
    cluster = f"$ORIGIN {DOMAIN}.\n@ 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ 5 IN NS ns.dns\n"
    cluster += f"ns.dns 5 IN A {ADDRESS}\n"
    cluster += "".join(f"{_service(n)}.{_namespace(n)}.svc 5 IN A {ADDRESS}\n" for n in range(SERVICES))
    outside = "$ORIGIN outside.example.\n@ 30 IN SOA ns hostmaster 1 7200 1800 86400 30\n@ 30 IN NS ns\n"
    outside += f"ns 30 IN A {ADDRESS}\n"
    outside += "".join(f"api{n} 30 IN A {ADDRESS}\napi{n} 30 IN AAAA {ADDRESS6}\n" for n in range(EXTERNAL))
    return {f"{DOMAIN}.": cluster, "outside.example.": outside}


def _service(number: int) -> str:
    return f"service{number}"


def _namespace(number: int) -> str:
    return f"team{number % NAMESPACES}"


def day(count: int, seed: int = 1) -> list[Ask]:
    """The first `count` questions of a day, at least; the last lookup is finished."""
    dice = random.Random(seed)
    services = iter(zipf(SERVICES, count, seed))
    external = iter(zipf(EXTERNAL, count, seed + 1))
    asks: list[Ask] = []
    while len(asks) < count:
        if dice.random() < EXTERNAL_SHARE:
            namespace = f"team{dice.randrange(NAMESPACES)}"
            asks += lookup(f"api{next(external)}.outside.example", namespace)
        else:
            number = next(services)
            form = dice.choices([form for _, form in FORMS], [share for share, _ in FORMS])[0]
            own = _namespace(number)  # short names work in their own namespace only
            namespace = own if form == FORMS[0][1] else f"team{dice.randrange(NAMESPACES)}"
            asks += lookup(form.format(service=_service(number), namespace=own), namespace)
    return asks


def lookup(name: str, namespace: str) -> Iterator[Ask]:
    """All questions of one `getaddrinfo(name)` by a pod of `namespace`, in order."""
    search = [f"{namespace}.svc.{DOMAIN}", f"svc.{DOMAIN}", DOMAIN]
    candidates = [f"{name}.{domain}" for domain in search]
    candidates.insert(0 if name.count(".") >= NDOTS else len(candidates), name)
    for candidate in candidates:
        there = exists(candidate)
        for rdtype in ("A", "AAAA"):
            has_data = there and (rdtype == "A" or candidate.endswith(".example"))
            yield Ask(candidate, rdtype, rcode=0 if there else NXDOMAIN, data=has_data)
        if there:
            return


def exists(name: str) -> bool:
    """Whether the zones above have this name, of those that lookups ask for."""
    if name.endswith(".outside.example"):
        return name.count(".") == 2
    labels = name.removesuffix(f".svc.{DOMAIN}").split(".")
    if len(labels) != 2 or not name.endswith(f".svc.{DOMAIN}"):
        return False
    service, namespace = labels
    return service.startswith("service") and namespace == _namespace(int(service.removeprefix("service")))
