"""Stage 4: questions that were answered before."""
