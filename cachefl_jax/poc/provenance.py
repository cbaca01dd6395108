"""Where the server's set and the encoder come from, on which terms, and what a run did not test."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.config.secure import SECURE
from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.poc.privacy import real_images
from cachefl_jax.synthesis.licence import terms_of_pipeline

POCKET = "pocket"  # the embedded generator, and the embedded CLIP
OWN_TERMS = "Apache-2.0, as this package"


class Facts(NamedTuple):
    """What a run was made of."""

    config: Mapping[str, Any]  # the run's, nested: config.to_dict()
    manifest: Mapping[str, Any]  # `inputs.bank.metadata["synthetic"]`; {} for a bank
    encoder: Mapping[str, Any]  # `inputs.bank.metadata`: encoder, weights_sha256
    seeds: int  # that were run
    device: str  # "cpu" or "gpu": jax.default_backend()


def provenance(facts: Facts) -> dict[str, Any]:
    """`provenance` of decision.json: rows of (what, told)."""
    synthesis, manifest = facts.config["synthesis"], facts.manifest
    rows = [("Data", str(facts.config["data"]["path"])), ("Server's set", made(synthesis, manifest))]
    rows += [("Licence of the set", licence(synthesis))]
    digest = manifest.get("images_sha256") or manifest.get("fingerprint")
    if digest:
        rows.append(("Digest of the set", digest))
    rows.append(("Encoder", str(facts.encoder.get("encoder", "not known: features came from a bank"))))
    if facts.encoder.get("encoder") == POCKET:
        rows.append(("Licence of the encoder", OWN_TERMS))
    elif facts.encoder.get("encoder"):
        rows.append(("Licence of the encoder", "not read here: see where its checkpoint is from"))
    if facts.encoder.get("weights_sha256"):
        rows.append(("Digest of the encoder", facts.encoder["weights_sha256"]))
    return {"rows": rows}


def made(synthesis: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What made the server's images."""
    source, real = synthesis["source"], real_images(synthesis)
    if source == "held_out":
        return f"{real} real training images of every class"
    if source in DRAWN:
        name = POCKET if source == POCKET else synthesis["pipeline"]
        told = f"drawn by {name}, {synthesis['steps']} steps, guidance {synthesis['guidance']:g}"
        told += f", weights {manifest['weights_sha256'][:16]}" if manifest.get("weights_sha256") else ""
    elif source == "image_folder":
        told = f"brought along in {synthesis['path']}"
    else:
        return "the bank's own"
    return f"{told}; {real} of every class are real training images" if real else told


def licence(synthesis: Mapping[str, Any]) -> str:
    """The terms of the server's images, where this package can know them."""
    source = synthesis["source"]
    if source == "held_out":
        return "that of the sites' own images"
    if source == POCKET:
        return OWN_TERMS
    if source == "diffusers":
        return card_words(synthesis["pipeline"])
    return "not known: whoever brought them has to say"


def card_words(pipeline: str) -> str:
    """What a generator's model card says of its licence."""
    licence, link, _ = terms_of_pipeline(pipeline)
    if licence is None:
        return "not told by the generator's files: its page says what its images may be used for"
    return f"{licence}{f' ({link})' if link else ''}, says the generator's model card; nobody has checked it"


def untested(facts: Facts) -> list[str]:
    """`untested` of decision.json: what this run leaves open, by its config."""
    config, gone = facts.config, []
    gone.append("New data: all images are of the folders as they are today, so no drift over time was seen.")
    one = "one split of the images" + (f", {facts.seeds} seeds of training" if facts.seeds > 1 else ", one seed")
    gone.append(f"Other splits: {one}. Another split gives other figures.")
    gone.append("A network: all sites ran in one program; seconds on lines are reckoned, no byte was sent.")
    if facts.encoder.get("encoder") == POCKET:
        gone.append("A released CLIP: the encoder is the embedded pocket model, which is far weaker on photographs.")
    if config["synthesis"]["source"] == "held_out":
        gone.append("Generated images for the server: its set is of real ones, so their gain or loss is not known.")
    if config["hostile"]["kind"] == "none":
        gone.append("Hostile or faulty sites: all sent what they should.")
    participation = config["participation"]
    if not (participation["drop_out"] or participation["drop_out_late"] or participation["profiles"]):
        gone.append("Sites that are slow or drop out in the middle of a round: all were there.")
    if config["privacy"]["mechanism"] == "none":
        gone.append("What differential privacy would cost in accuracy.")
    if config["aggregation"]["name"] not in SECURE:
        gone.append("Secure sums.")
    if facts.device == "cpu":
        gone.append("A GPU: everything was computed on CPU cores.")
    return gone


def repeat(workdir: pathlib.Path) -> str:
    """How to run it again; config.py there is made to be changed."""
    return f"cachefl poc --config={workdir / 'config.py'} --workdir=ANOTHER"
