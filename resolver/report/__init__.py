"""Stage 8: who watches: exact counts, the query log, the error log."""
