"""Bounds of the flights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CollapseOptions:
    """For one server block."""

    flights_max: int = 4000  # different questions waiting for upstream: x about 2 KiB is 8 MiB
    waiters_max: int = 1000  # clients that wait for one answer: landed in slices of 128, see pipeline
