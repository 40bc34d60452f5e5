"""DNS on the wire: everything that knows where a byte stands in a message."""
