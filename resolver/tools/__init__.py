"""Commands for people: `resolver check`, `resolver demo`."""
