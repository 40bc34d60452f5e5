"""Tests of `resolver.cache`."""
