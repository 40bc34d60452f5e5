"""Types of the compiled `Life` (`life.pyx`)."""

class Life:
    """See `plain_life.Life`."""

    gap_s: float
    recheck_s: float
    stored_s: float
    until_s: float
    uses: int
    used_s: float
