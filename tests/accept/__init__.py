"""Tests of the listening side."""
