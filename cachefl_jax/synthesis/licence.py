"""What a pipeline's own files say of it: its licence and revision, by its model card."""

import contextlib
import pathlib
import re
from typing import NamedTuple

from cachefl_jax.synthesis.pipeline import POCKET, find_pipeline

CARD = "README.md"
OWN_LICENCE = "Apache-2.0"  # of what is embedded in this package
MOST = 1_000_000  # bytes of a model card that are read


class Terms(NamedTuple):
    """On which terms a model came; None where its files do not tell."""

    licence: str | None
    link: str | None  # where the licence's text is, where the card names a place
    revision: str | None  # the hub's, of a model that was downloaded


def terms_of(directory: pathlib.Path) -> Terms:
    """Reads a model card's header (``license``, ``license_name``, ``license_link``) and the hub's folder name.

    The card is what its author says; nobody has checked it. A card that cannot be read tells nothing."""
    if directory == POCKET:
        return Terms(OWN_LICENCE, None, None)
    header = card_header(directory / CARD)
    licence = header.get("license")
    if licence == "other":  # then the card has a name of its own for it
        licence = header.get("license_name") or licence
    return Terms(text_or_none(licence), text_or_none(header.get("license_link")), revision_of(directory))


def card_header(path: pathlib.Path) -> dict:
    """The header of a model card in YAML; nothing where there is none, or where it is no YAML."""
    from huggingface_hub import RepoCard

    try:
        if path.stat().st_size > MOST:
            return {}
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.lstrip().startswith("---"):
            return {}
        card = RepoCard(text, ignore_metadata_errors=True)
    except Exception:  # the parsers of YAML raise kinds of their own; without a header nothing is known
        return {}
    return card.data.to_dict()


def terms_of_pipeline(name: str) -> Terms:
    """The terms of a pipeline by its name; the hub is asked for a card that a download came without."""
    directory = find_pipeline(name)
    fetch_card(name, directory)
    return terms_of(directory)


def fetch_card(name: str, directory: pathlib.Path) -> None:
    """Brings the card of a pipeline that was downloaded from the hub, which comes without it; where the hub cannot be
    reached it stays away."""
    from huggingface_hub import hf_hub_download

    revision = revision_of(directory)
    if revision and not (directory / CARD).is_file():
        with contextlib.suppress(Exception):  # the hub client raises a dozen kinds: then the licence is not told
            hf_hub_download(name, CARD, revision=revision)


def text_or_none(value) -> str | None:
    """What a card says in one line; lists of texts joined."""
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(item) for item in value)
    return " ".join(value.split())[:200] if isinstance(value, str) and value.strip() else None


def revision_of(directory: pathlib.Path) -> str | None:
    """The commit that the hub's cache names a snapshot's folder by."""
    resolved = directory.absolute()
    is_snapshot = resolved.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", resolved.name)
    return resolved.name if is_snapshot else None
