"""What the server asks the generator for: a prompt and a seed for every image of every class.

Axis letters: N classes, K images a class.
"""

import hashlib
from collections.abc import Sequence

from cachefl_jax.errors import UsageError

SLOT = "{}"


def check_templates(templates: Sequence[str]) -> None:
    """Refuses templates that do not hold exactly one "{}", the place of the class name."""
    mend = "write one {} where the class name goes, such as 'a photo of a {}.'"
    if isinstance(templates, str) or not templates:
        raise UsageError("synthesis.prompts", templates, "one or more templates in a tuple", mend)
    for template in templates:
        if template.count(SLOT) != 1:
            raise UsageError("synthesis.prompts", template, "templates with exactly one {}", mend)


def class_prompts(
    class_names: Sequence[str], templates: Sequence[str], images_per_class: int
) -> tuple[tuple[str, ...], ...]:
    """The prompts of every class, [N][K]; image k takes template k modulo their number.

    Raises:
        UsageError: no templates, one without exactly one "{}", or less than one image a class.
    """
    check_templates(templates)
    if images_per_class < 1:
        raise UsageError("synthesis.images_per_class", images_per_class, "1 or more", "ask for at least one image")
    cycle = [templates[image % len(templates)] for image in range(images_per_class)]
    # Not str.format: braces elsewhere in a template or a name are ordinary text.
    return tuple(tuple(template.replace(SLOT, name) for template in cycle) for name in class_names)


def image_seeds(class_names: Sequence[str], images_per_class: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """A seed for every image, [N][K], below 2**48.

    It comes from the config's seed, the class's name and the image's number alone: reordering the classes, adding
    one, or asking for more images leaves the seeds of the others as they were.
    """
    return tuple(tuple(image_seed(seed, name, image) for image in range(images_per_class)) for name in class_names)


def image_seed(seed: int, name: str, image: int) -> int:
    digest = hashlib.sha256(f"{seed}\n{image}\n{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
