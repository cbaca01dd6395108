"""Class names to class weights: prompts from templates, through the text tower, averaged.

text[n] = unit(mean over templates of unit(text feature)), Radford et al., arXiv 2103.00020, section 3.1.4.
"""

from collections.abc import Sequence

import numpy as np

from cachefl_jax.errors import UsageError


def check_templates(field: str, templates: Sequence[str]) -> None:
    """Refuses templates without exactly one {} for the class name.

    Raises:
        UsageError: names `field` and the first template that is wrong.
    """
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise UsageError(field, template, "a text with exactly one {}", 'write, say, "a photo of a {}."')


def fill(template: str, class_name: str) -> str:
    """The prompt of a class; underscores of folder names read as spaces.

    Not str.format: braces elsewhere in a template or a name are ordinary text.
    """
    return template.replace("{}", class_name.replace("_", " "))


def tokenize(tokenizer, prompts: Sequence[str], length: int) -> np.ndarray:
    """Token ids [B, T], T = `length`, the tower's; longer prompts are cut as CLIP cuts them."""
    return tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="np")[
        "input_ids"
    ].astype(np.int32)
