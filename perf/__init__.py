"""Measurements beside real peers. Nothing here is imported by the package; it may use the tests' servers."""
