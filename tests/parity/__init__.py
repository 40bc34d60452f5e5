"""What node-local-dns answers, and what we answer to the same."""
