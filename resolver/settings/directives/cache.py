"""`cache [TTL] [ZONES...] { ... }`: what is kept, for how long (CoreDNS plugin/cache).

`cache/cache.py` does the work, with `cache/lifetime.py`, `cache/refresh.py` and `cache/store.py`.

Where we differ: a stale answer has TTL 30 and a failed refresh is left alone for 5 s (RFC 8767 sections 4 and 5),
where CoreDNS has 0 and 0. As in CoreDNS, where a minimum is above its maximum the maximum wins.
"""

from dataclasses import replace

from resolver.cache.options import CacheOptions
from resolver.settings import values
from resolver.settings.arguments import (
    Fields,
    Option,
    Where,
    bounded_duration,
    bounded_number,
    choice,
    count_arguments,
    flag,
    read_block,
    value,
    wrong,
    zones_of,
)
from resolver.settings.corefile import Statement
from resolver.settings.tokens import Token
from resolver.settings.values import shown

FORM = "cache [TTL] [ZONES...]"
_TTL_MAX_S = 2**31 - 1  # RFC 2181 section 8
_CAPACITY_STEP = 256  # CoreDNS: 256 shards
_CAPACITY_LEAST = 1024  # of at least 4 answers each
_SERVFAIL_MAX_S = 300.0  # RFC 9520 section 3.2
_RECHECK_MAX_S = 300.0  # RFC 8767 section 5
_STALE_DEFAULT_S = 3600.0
_ZONES_MAX = 1024


def _capacity(kind: str) -> Option:
    form = f"{kind} CAPACITY [TTL] [MINTTL]"

    def read_line(line: Statement, form: str) -> Fields:
        words = count_arguments(line, 1, 3, form)
        capacity = bounded_number(words[0], form, most=_TTL_MAX_S)
        fields: Fields = {
            f"{kind}_capacity": max(capacity - capacity % _CAPACITY_STEP, _CAPACITY_LEAST),
        }
        if len(words) > 1:
            fields[f"{kind}_max_ttl_s"] = bounded_number(words[1], form, least=1, most=_TTL_MAX_S)
        if len(words) > 2:
            fields[f"{kind}_min_ttl_s"] = bounded_number(words[2], form, most=_TTL_MAX_S)
        return fields

    return Option(form, read_line)


def _prefetch(line: Statement, form: str) -> Fields:
    words = count_arguments(line, 1, 3, form)
    fields: Fields = {"prefetch_amount": bounded_number(words[0], form)}
    if len(words) > 1:
        fields["prefetch_gap_s"] = bounded_duration(words[1], form)
    if len(words) > 2:
        fields["prefetch_percent"] = _percent(words[2], form)
    return fields


def _percent(word: Token, form: str) -> int:
    if not word.text.endswith("%"):
        raise wrong(word, f"{shown(word.text)} must end in %", form)
    return bounded_number(word._replace(text=word.text[:-1]), f"{form}, 10% to 90%", least=10, most=90)


def _serve_stale(line: Statement, form: str) -> Fields:
    """`verify` has a timeout in front of the two words that both modes may have."""
    default = CacheOptions()
    words = list(count_arguments(line, 0, 5, form))
    fields: Fields = {
        "stale_s": _STALE_DEFAULT_S,
        "stale_mode": "immediate",
        "stale_verify_timeout_s": None,
        "stale_answer_ttl_s": default.stale_answer_ttl_s,
        "stale_recheck_s": default.stale_recheck_s,
    }
    if words:
        fields["stale_s"] = bounded_duration(words.pop(0), form)
    if words:
        mode = words.pop(0)
        if mode.text.lower() not in {"immediate", "verify"}:
            raise wrong(mode, f"{shown(mode.text)} is not a mode, immediate or verify", form)
        fields["stale_mode"] = mode.text.lower()
    if words and fields["stale_mode"] == "verify":
        fields["stale_verify_timeout_s"] = bounded_duration(words.pop(0), form) or None
    if words:
        fields["stale_answer_ttl_s"] = _whole_seconds(words.pop(0), form)
    if words:
        fields["stale_recheck_s"] = bounded_duration(words.pop(0), form, most_s=_RECHECK_MAX_S)
    if words:
        raise wrong(words[0], f"{shown(words[0].text)} is one argument too many", form)
    return fields


def _whole_seconds(word: Token, form: str) -> int:
    found_s = bounded_duration(word, form, most_s=_TTL_MAX_S)
    if found_s != int(found_s):
        raise wrong(word, f"{shown(word.text)} is not a whole number of seconds", form)
    return int(found_s)


def _servfail(line: Statement, form: str) -> Fields:
    (word,) = count_arguments(line, 1, 1, form)
    return {"servfail_s": bounded_duration(word, form, most_s=_SERVFAIL_MAX_S)}


def _disable(line: Statement, form: str) -> Fields:
    kind, *zones = count_arguments(line, 1, _ZONES_MAX, form)
    if kind.text not in {"success", "denial"}:
        raise wrong(kind, f"{shown(kind.text)} is not a kind of answer, success or denial", form)
    return {f"disable_{kind.text}": zones_of(zones, form)}


OPTIONS = {
    "success": _capacity("success"),
    "denial": _capacity("denial"),
    "prefetch": Option("prefetch AMOUNT [DURATION [PERCENT%]]", _prefetch),
    "serve_stale": Option(
        "serve_stale [DURATION [immediate [RESPONSE_TTL [FAILURE_RECHECK]]"
        " | verify [TIMEOUT [RESPONSE_TTL [FAILURE_RECHECK]]]]]",
        _serve_stale,
    ),
    "serve_stale_policy": Option(
        "serve_stale_policy prefer_positive", choice("serve_stale_policy", ["prefer_positive"])
    ),
    "servfail": Option("servfail DURATION", _servfail),
    "disable": Option("disable success|denial [ZONES...]", _disable),
    "keepttl": Option("keepttl", flag("keepttl")),
}


def read(statement: Statement, where: Where) -> CacheOptions:
    """Return the block's cache."""
    words = list(count_arguments(statement, 0, _ZONES_MAX, FORM))
    options = CacheOptions()
    if words and (ttl_s := _ttl(words[0])) is not None:
        options = replace(options, success_max_ttl_s=ttl_s, denial_max_ttl_s=ttl_s)
        words.pop(0)
    options = replace(options, zones=zones_of(words, FORM))
    fields = read_block(statement, OPTIONS)
    if fields.pop("serve_stale_policy", None):
        if "stale_s" not in fields:
            raise wrong(_line(statement, "serve_stale_policy"), "serve_stale_policy needs serve_stale", FORM)
        fields["prefer_positive"] = True
    return replace(options, **fields)


def _ttl(word: Token) -> int | None:
    """Return the TTL if the first argument is one; else it is a zone, unless it only looks like a duration."""
    try:
        values.integer(word.text)
    except ValueError:
        try:
            values.duration_s(word.text)
        except ValueError:
            return None
        seconds = round(values.duration_s(word.text))
        raise wrong(
            word, f"{shown(word.text)} has a unit, the TTL is bare seconds: cache {seconds}", FORM
        ) from None
    return value(word, lambda _: bounded_number(word, FORM, least=1, most=_TTL_MAX_S), FORM)


def _line(statement: Statement, word: str) -> Token:
    return next((line.word for line in statement.body or () if line.word.text == word), statement.word)
