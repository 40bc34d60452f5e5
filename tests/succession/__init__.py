"""Tests of hand-over and snapshots: real processes, and peers that stop at each step."""
