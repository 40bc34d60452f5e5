"""One module for each Corefile word: `directives/<word>.py` parses it and names the file that does it."""
