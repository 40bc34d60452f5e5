"""Stage 3: questions that are answered here, from no upstream and no cache."""
