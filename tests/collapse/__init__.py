"""Tests of `resolver.collapse`."""
