"""Templates: texts with one {} for a class's name, for class weights and for the server's generator alike."""

from collections.abc import Sequence

from cachefl_jax.errors import UsageError


def check_templates(field: str, templates: Sequence[str]) -> None:
    """Refuses templates without exactly one {} for the class name.

    Raises UsageError: names `field` and the first template that is wrong."""
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise UsageError(field, template, "a text with exactly one {}", 'write, say, "a photo of a {}."')


def fill(template: str, class_name: str) -> str:
    """The prompt of a class; underscores of folder names read as spaces.

    Not str.format: braces elsewhere in a template or a name are ordinary text.
    """
    return template.replace("{}", class_name.replace("_", " "))
