"""Stage 7: the bytes that this client can use."""
