"""Tests of who watches."""
