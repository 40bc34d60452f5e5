"""Tests of `resolver.reply`."""
