"""Names on disk as text, whatever the locale.

Under an ASCII locale Python hands on the bytes of a name that it cannot decode as lone surrogates. Files are opened by
that form; class names, prompts and reports need the text that the bytes spell.
"""

import os
import unicodedata


def readable(name: str) -> str:
    """The text that a file's name spells in UTF-8; the name itself where it spells none."""
    try:
        return os.fsencode(name).decode()
    except UnicodeError:
        return name


def on_disk(text: str) -> str:
    """The name by which the file system gives a file called `text`."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode(errors="surrogateescape"))
    return text


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC): an accented letter may also be written as two characters (NFD)."""
    return unicodedata.normalize("NFC", text)
