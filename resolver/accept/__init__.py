"""Stage 1: sockets, the packet cache and the batch loop; bytes become a `Question` here."""
