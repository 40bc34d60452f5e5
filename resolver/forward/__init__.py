"""Stage 6: ask an upstream."""
