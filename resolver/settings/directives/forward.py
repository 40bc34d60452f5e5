"""`forward FROM TO... { ... }`: whom to ask (CoreDNS plugin/forward).

`forward/forwarder.py` does the work, `forward/choose.py` and `forward/attempt.py` decide. `fallback` and
`deadline` are ours. TO words are read by `settings/targets.py`.
"""

from dataclasses import replace

from resolver.forward.options import ForwardOptions, Target, TlsOptions
from resolver.settings import targets, values, zones
from resolver.settings.arguments import (
    Fields,
    Option,
    Reader,
    Where,
    bounded_duration,
    bounded_number,
    choice,
    count_arguments,
    duration,
    flag,
    number,
    read_block,
    value,
    wrong,
    zones_of,
)
from resolver.settings.corefile import Statement
from resolver.settings.tokens import Token
from resolver.settings.values import shown

FORM = "forward FROM TO..."
TARGETS_MAX = 15
"""CoreDNS plugin/forward max."""

ATTEMPTS_MAX = 100
"""Tries for one question; `max_connect_attempts 0` (CoreDNS: no limit) and larger numbers become this.

15 upstreams are asked six times each before it is reached; the deadline ends the tries long before.
"""

HEALTH_CHECK_LEAST_S = 0.01
"""Shorter pauses become this, also 0 (CoreDNS: none): more than 100 probes a second help nobody."""

DEADLINE_LEAST_S, DEADLINE_MAX_S = 0.1, 30.0
_NAMES_MAX = 1024

# RFC 6895 section 2.3; those above 15 come with EDNS.
_RCODES = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6,
    "YXRRSET": 7, "NXRRSET": 8, "NOTAUTH": 9, "NOTZONE": 10, "BADVERS": 16, "BADSIG": 16, "BADKEY": 17,
    "BADTIME": 18, "BADMODE": 19, "BADNAME": 20, "BADALG": 21, "BADTRUNC": 22, "BADCOOKIE": 23,
}  # fmt: skip


def _except(line: Statement, form: str) -> Fields:
    return {"except_zones": zones_of(count_arguments(line, 1, _NAMES_MAX, form), form)}


def _attempts(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    return {"max_connect_attempts": min(bounded_number(word, form) or ATTEMPTS_MAX, ATTEMPTS_MAX)}


def _tls(line: Statement, form: str) -> Fields:
    paths = [word.text for word in count_arguments(line, 0, 3, form)]
    certificate, key = paths[:2] if len(paths) > 1 else ("", "")
    ca = paths[-1] if len(paths) in {1, 3} else ""
    return {"tls": TlsOptions(certificate_path=certificate, key_path=key, ca_path=ca)}


def _tls_servername(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    return {"tls_servername": value(word, zones.name, form).rstrip(".")}


def _policy(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    if word.text == "fastest":
        raise wrong(word, "policy fastest comes with a later release", form)
    return choice("policy", ["random", "round_robin", "sequential"])(line, form)


def _health_check(line: Statement, form: str) -> Fields:
    interval, *rest = count_arguments(line, 1, 4, form)
    interval_s = max(bounded_duration(interval, form), HEALTH_CHECK_LEAST_S)
    fields: Fields = {"health_check_s": interval_s, "health_check_domain": "."}
    while rest:
        word = rest.pop(0)
        if word.text == "no_rec":
            fields["health_check_no_rec"] = True
        elif word.text == "domain" and rest:
            fields["health_check_domain"] = value(rest.pop(0), zones.name, form)
        else:
            raise wrong(word, f"{shown(word.text)} does not belong here", form)
    return fields


def _rcodes(field: str, *, refused: str = "") -> Reader:
    def read_line(line: Statement, form: str) -> Fields:
        found: set[int] = set()
        for word in count_arguments(line, 1, len(_RCODES), form):
            name = word.text.upper()
            if name not in _RCODES or name == refused:
                known = ", ".join(known for known in _RCODES if known != refused)
                raise wrong(word, f"{shown(word.text)} is not a response code for {line.word.text}", known)
            found.add(_RCODES[name])
        return {field: frozenset(found)}

    return read_line


def _resolver(line: Statement, form: str) -> Fields:
    words = count_arguments(line, 1, TARGETS_MAX, form)
    return {"resolver_targets": tuple(value(word, targets.address, form) for word in words)}


def _source_address(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    return {"source_address": value(word, values.ip, form)}


def _fallback(line: Statement, form: str) -> Fields:
    words = count_arguments(line, 1, TARGETS_MAX, form)
    if len(words) == 1 and words[0].text == "off":
        return {"fallback": ()}
    return {"fallback": tuple(value(word, targets.address, form) for word in words)}


def _deadline(line: Statement, form: str) -> Fields:
    first, *second = count_arguments(line, 1, 2, form)
    limit_s = bounded_duration(first, form, least_s=DEADLINE_LEAST_S, most_s=DEADLINE_MAX_S)
    slow_s = max(limit_s, ForwardOptions().deadline_slow_s)
    for word in second:
        slow_s = bounded_duration(word, form, least_s=limit_s, most_s=DEADLINE_MAX_S)
    return {"deadline_s": limit_s, "deadline_slow_s": slow_s}


def _read_timeout(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    return {"read_timeout_s": bounded_duration(word, form, least_s=0.001)}


def _later(line: Statement, form: str) -> Fields:
    raise wrong(line.word, f"{line.word.text} comes with a later release", "the options of docs/configuration.md")


OPTIONS = {
    "except": Option("except NAMES...", _except),
    "force_tcp": Option("force_tcp", flag("force_tcp")),
    "prefer_udp": Option("prefer_udp", flag("prefer_udp")),
    "expire": Option("expire DURATION", duration("expire_s")),
    "max_age": Option("max_age DURATION", duration("max_age_s")),
    "max_idle_conns": Option("max_idle_conns NUMBER", number("max_idle_conns")),
    "max_fails": Option("max_fails NUMBER", number("max_fails")),
    "max_connect_attempts": Option("max_connect_attempts NUMBER", _attempts),
    "tls": Option("tls [CERT KEY] [CA]", _tls),
    "tls_servername": Option("tls_servername NAME", _tls_servername),
    "policy": Option("policy random|round_robin|sequential", _policy),
    "health_check": Option("health_check DURATION [no_rec] [domain NAME]", _health_check),
    "max_concurrent": Option("max_concurrent NUMBER", number("max_concurrent")),
    "next": Option("next RCODE...", _rcodes("next_rcodes")),
    "next_on_nodata": Option("next_on_nodata", flag("next_on_nodata")),
    "failover": Option("failover RCODE...", _rcodes("failover_rcodes", refused="NOERROR")),
    "failfast_all_unhealthy_upstreams": Option("failfast_all_unhealthy_upstreams", flag("failfast")),
    "read_timeout": Option("read_timeout DURATION", _read_timeout),
    "source_address": Option("source_address IP", _source_address),
    "resolver": Option("resolver IP[:PORT]...", _resolver),
    "fallback": Option("fallback IP[:PORT]...|off", _fallback),
    "deadline": Option("deadline DURATION [SLOW_DURATION]", _deadline),
    "doh_method": Option("doh_method POST|GET", _later, offered=False),
    "hedge": Option("hedge auto|DURATION|off", _later, offered=False),
}


def read(statement: Statement, where: Where) -> ForwardOptions:
    """Return one `forward`; its fallback is empty also when no line says anything of it (see `has_fallback`)."""
    words = count_arguments(statement, 2, TARGETS_MAX + 1, FORM)
    from_zones = value(words[0], lambda text: zones.expand(zones.without_scheme_and_port(text)), FORM)
    if len(from_zones) > 1:
        where.warnings.append(
            f"{words[0].file}:{words[0].line}: forward: {words[0].text} is {len(from_zones)} zones,"
            f" only {from_zones[0]} is forwarded (as in CoreDNS); write one forward for each"
        )
    found = {
        value(word, lambda text: targets.target(text, where.machine), targets.FORM): word for word in words[1:]
    }
    fields = read_block(statement, OPTIONS)
    server_name = fields.pop("tls_servername", "")
    _one_server_name(found, server_name)
    tls = replace(fields.pop("tls", TlsOptions()), server_name=server_name)
    options = ForwardOptions(from_zone=from_zones[0], targets=tuple(found), tls=tls, **fields)
    _files_of_tls(statement, where)
    if 0 < options.max_age_s < options.expire_s:
        raise wrong(
            line_of(statement, "max_age"),
            f"max_age {values.duration_text(options.max_age_s)} is shorter than"
            f" expire {values.duration_text(options.expire_s)}",
            "max_age of at least expire",
        )
    return options


def has_fallback(statement: Statement) -> bool:
    """Tell whether the block says something of `fallback`; if not, a cluster's default applies."""
    return any(line.word.text == "fallback" for line in statement.body or ())


def line_of(statement: Statement, option: str) -> Token:
    """Return the last word `option` that begins a line of the block, for messages."""
    lines = [line.word for line in statement.body or () if line.word.text == option]
    return lines[-1] if lines else statement.word


def _files_of_tls(statement: Statement, where: Where) -> None:
    """That they are there; what is in them is for the TLS library to judge."""
    for line in statement.body or ():
        for word in line.args if line.word.text == "tls" else ():
            if not where.machine.is_file(word.text):
                raise wrong(word, f"there is no file {shown(word.text)}", OPTIONS["tls"].form)


def _one_server_name(found: dict[Target, Token], server_name: str) -> None:
    for target, word in found.items():
        if target.server_name and server_name:
            raise wrong(
                word,
                f"{shown(word.text)} has a TLS server name and tls_servername sets another",
                "one of the two",
            )
