"""Stage 2: which questions come in, and as what."""
