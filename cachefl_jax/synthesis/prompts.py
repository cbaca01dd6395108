"""What the server asks the generator for: a prompt and a seed for every image of every class.

Axis letters: N classes, K images a class.
"""

import hashlib
from collections.abc import Sequence

from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates, fill


def class_prompts(
    class_names: Sequence[str], templates: Sequence[str], images_per_class: int
) -> tuple[tuple[str, ...], ...]:
    """The prompts of every class, [N][K]; image k takes template k modulo their number.

    Raises UsageError: no templates, one without exactly one "{}", or less than one image a class."""
    if isinstance(templates, str) or not templates:
        raise UsageError(
            "synthesis.prompts", templates, "one or more templates in a tuple", "write ('a photo of a {}.',)"
        )
    check_templates("synthesis.prompts", templates)
    if images_per_class < 1:
        raise UsageError("synthesis.images_per_class", images_per_class, "1 or more", "ask for at least one image")
    cycle = [templates[image % len(templates)] for image in range(images_per_class)]
    return tuple(tuple(fill(template, name) for template in cycle) for name in class_names)


def in_turn(prompts: Sequence[Sequence[str]], images_per_class: int) -> tuple[tuple[str, ...], ...]:
    """A prompt for every image, [N][K], of each class's own, taken in turn: image k takes prompt k modulo their number.

    Args:
        prompts: one or more a class, [N][any number]."""
    return tuple(tuple(row[image % len(row)] for image in range(images_per_class)) for row in prompts)


def image_seeds(class_names: Sequence[str], images_per_class: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """A seed for every image, [N][K], below 2**48.

    It comes from the config's seed, the class's name and the image's number alone: reordering the classes, adding
    one, or asking for more images leaves the seeds of the others as they were."""
    return tuple(tuple(image_seed(seed, name, image) for image in range(images_per_class)) for name in class_names)


def image_seed(seed: int, name: str, image: int) -> int:
    digest = hashlib.sha256(f"{seed}\n{image}\n{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
