"""Tests mirror the package; `scenarios/` holds stories, `support/` the servers and clients they use."""
