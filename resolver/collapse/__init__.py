"""Stage 5: many askers, one upstream question."""
