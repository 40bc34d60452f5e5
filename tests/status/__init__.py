"""Tests of what the process says of itself."""
