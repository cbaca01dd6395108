"""What stands beside pictures and tables: each sentence only of the runs of which it is true."""

from typing import NamedTuple

from cachefl_jax.report import words
from cachefl_jax.report.workdir import Run


class ServerImages(NamedTuple):
    """What the cache was made of."""

    heading: str
    images: str  # beside the pictures
    privacy: str  # whose they were


DRAWN = ServerImages(
    "What the generator drew",
    "synthetic images, drawn on the server from words alone",
    "The server's images were drawn from words: no client gave an image for them.",
)
SERVER_IMAGES = {
    "pocket": DRAWN,
    "diffusers": DRAWN,
    "held_out": ServerImages(
        "What the server held back",
        "real images set apart for the server, which no client holds",
        "The cache was made of real images, set apart from the data: somebody has to give them to the server, and "
        "their features go to every client.",
    ),
    "image_folder": ServerImages(
        "What the server was given",
        "images that the server was given, drawn elsewhere",
        "The server was given the images of the cache: this run cannot tell whether they were drawn or are real. Their "
        "features go to every client.",
    ),
    "bank": ServerImages(
        "What the server has",
        "",
        "This run saw features, not images. Whose images the cache's features come from, the bank's maker knows; they "
        "go to every client.",
    ),
}
UNKNOWN = ServerImages("What the server has", "the server's images", "The features of the cache go to every client.")


def server_images(run: Run) -> ServerImages:
    """By synthesis.source of the run's config, and by the real images beside it."""
    found = SERVER_IMAGES.get(words.source(run), UNKNOWN)
    real = (run.config.get("synthesis") or {}).get("real_images", 0)
    if not real or words.source(run) in ("held_out", "bank"):
        return found
    told = f"Of each class's images at the server {real} are real: they were set apart from the data, somebody has to "
    told = f"{told}give them to the server, and their features go to every client."
    if found is DRAWN:
        return ServerImages(
            "What the server drew and held back", f"{real} real images a class set apart, the others {found.images}",
            f"{told} The others were drawn from words.",
        )  # fmt: skip
    return ServerImages(found.heading, f"{real} real images a class set apart, and {found.images}",
                        f"{told} Of the others: {found.privacy}")  # fmt: skip


SITES = (
    "Real sites, each with its training samples and the rounds that it took part in. Of which classes the samples are, "
    "no site told the server."
)


def holdings(run: Run, pooled: bool) -> str:
    """How the picture of who holds what is read."""
    cells = run.cells
    sentences = [
        "A line a client, a column a class: the deeper the blue, the more training samples (by the square root)."
    ]
    if cells.clients > 1 and cells.classes > 1:
        sentences.append("What differs from line to line is what federated training has to cope with.")
    if pooled:
        sentences.append(
            "There are more cells than the picture has dots, so a dot stands for the fullest of its cells."
        )
    return " ".join(sentences)


def terms(run: Run) -> str:
    """What the figures below the picture mean; "" where no client has samples."""
    cells = run.cells
    if not cells.sizes.any():
        return ""
    scale = f"1 means one class only, {cells.classes:,} means all of them alike. " if cells.classes > 1 else ""
    return (
        f"Effective classes: the exponential of the entropy of a client's labels. {scale}Distance to all labels: the "
        "share of a client's labels that would have to change for it to hold the classes as all clients together do "
        "(total variation); 0 means alike."
    )


def pictures(run: Run, shown: int) -> str:
    """What the two columns of the contact sheet are; `shown` classes are on it."""
    drawn = run.synthetic.shape[1]
    keys = (run.config.get("cache") or {}).get("keys_per_class")
    views = (run.config.get("clip") or {}).get("key_views")
    rule = (run.config.get("synthesis") or {}).get("selection", "first")
    which = f"the first {keys:,} of each class" if keys and keys < drawn else "these"
    made = f"each key the mean of {views:,} random crops" if views else "a key each"
    more = " and of others" if keys and keys > drawn else ""
    if rule == "means":
        which, more = "groups of each class's images, averaged,", ""
    elif rule != "first":
        more += f", chosen by synthesis.selection={rule},"
    used = (
        f"the cache at round 0, {made}" if run.config.get("method", "cachefl") == "cachefl" else "the server's features"
    )
    sentences = [
        f"Server: {server_images(run).images}. The features of {which}{more} are {used}.",
        f"Clients: their own of the same class{changed(run)}." if run.real.shape[1] else NONE_OF_SOME,
    ]
    if shown < len(run.class_names):
        sentences.append(f"Shown: {shown} of {len(run.class_names):,} classes.")
    return " ".join(sentences)


NONE_OF_SOME = "Clients: none are shown, since they hold none of some class."


def changed(run: Run) -> str:
    change = (run.config.get("partition") or {}).get("change", "none")
    return "" if change == "none" else f", as each client's images were changed ({change})"


def no_pictures(run: Run) -> str:
    if words.source(run) == "bank":
        return "This run worked on features, not on images, so there are none to show."
    return "The run's folder holds no images to show."


def travelled(run: Run) -> str:
    """How the table of bytes came about."""
    model = run.summary.get("whole_model") is not None
    whole = (
        " The whole model is what federated fine-tuning of all its weights would send, to the same clients in the same "
        "rounds." if model else ""
    )  # fmt: skip
    return (
        f"Counted from the arrays that travel, without a network's own headers.{whole} No gradient passes through an "
        "encoder: a client trains on features."
    )
