"""The machine under us: sockets' holders, limits; later the node's address, rules and hand-over."""
