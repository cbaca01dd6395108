"""Files: written whole or not at all, read without trusting them, one writer at a time."""
