"""Stories: what the server does, told in text files (README.md)."""
