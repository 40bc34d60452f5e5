"""What directives can say about the bytes that a client gets (`docs/configuration.md`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadBalanceOptions:
    """`loadbalance`: records of addresses take turns (CoreDNS plugin/loadbalance, policy round_robin)."""

    prefer: tuple[str, ...] = ()  # networks; addresses in them stand first, those of an earlier one before the rest
