"""What the server's generator is asked for: templates, a file of prompts, or descriptions by a language model.

Axis letters: N classes, B texts, D features.
"""

import importlib.metadata
import pathlib
import platform
import time
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError, listing
from cachefl_jax.storage.digests import files_digest
from cachefl_jax.storage.files import file_digest
from cachefl_jax.synthesis import descriptions, grammar, language_model
from cachefl_jax.synthesis.descriptions import LEAST_DISTANCE, LINES, TRIES, Ask, Described, Rules, describe
from cachefl_jax.synthesis.pipeline import find_pipeline, load_tokenizers
from cachefl_jax.synthesis.prompts import class_prompts
from cachefl_jax.synthesis.prompts_file import read_prompts
from cachefl_jax.synthesis.prompts_store import obtain_prompts
from cachefl_jax.templates import fill

GRAMMAR = "grammar"


def prompts_json(config: ConfigDict, class_names: Sequence[str], templates: Sequence[str]) -> dict:
    """{"about": where they come from, "prompts": {class name: [prompts, taken in turn]}}: what prompts.json holds.

    Args:
        templates: the data set's own, where the config names none.

    Raises UsageError: the file does not fit the classes, or the language model is not to be had or answers too
    little that is fit."""
    synthesis = config.synthesis
    templates = tuple(synthesis.prompts) or tuple(templates)
    if synthesis.language_model:
        return described(config, tuple(class_names), templates)
    if synthesis.prompts_file:
        path = pathlib.Path(synthesis.prompts_file)
        prompts = read_prompts(path, class_names, templates)
        about = {"source": "file", "path": str(path), "sha256": file_digest(path)}
    else:
        prompts = class_prompts(class_names, templates, len(templates))
        about = {"source": "templates", "templates": list(templates)}
    return {"about": about, "prompts": {name: list(row) for name, row in zip(class_names, prompts, strict=True)}}


def prompts_words(found: dict) -> str:
    """What `prompts_json` gave, in a line: how many prompts by whom, what was refused, which classes have fewer."""
    about, prompts = found["about"], found["prompts"]
    told = f"{sum(map(len, prompts.values())):,} prompts for {len(prompts):,} classes"
    if about["source"] != "language model":
        return f"{told}, by templates" if about["source"] == "templates" else f"{told}, from {about['path']}"
    most_first = sorted(about["refused"].items(), key=lambda pair: -pair[1])
    refused = [f"{times:,} {fault}" for fault, times in most_first]
    told += f" by {about['model']}; refused lines: {', '.join(refused) or 'none'}"
    due = about["made_of"]["descriptions"]
    fewer = [f"{name} ({len(row)})" for name, row in prompts.items() if len(row) < due]
    return f"{told}; fewer than {due}: {listing(fewer)}" if fewer else told


def described(config: ConfigDict, class_names: tuple[str, ...], templates: tuple[str, ...]) -> dict:
    """As `prompts_json`, by a language model or the grammar; from the store where the same was asked for before."""
    from cachefl_jax.simulation.encoded import Checkpoint

    synthesis, clip = config.synthesis, config.clip
    model, examples = synthesis.language_model, {name: fill(templates[0], name) for name in class_names}
    checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
    source = "pocket" if synthesis.source == "pocket" else synthesis.pipeline
    own = grammar_of(config) if model == GRAMMAR else asked_model(model, examples)
    tokenizers = tokenizer_files(find_pipeline(source))
    made_of = {
        **own, "class_names": list(class_names), "descriptions": synthesis.descriptions, "seed": config.seed,
        "rules": [descriptions.VERSION, LINES, TRIES, None if model == GRAMMAR else LEAST_DISTANCE],
        "text_tower": checkpoint.weights,
        "generator": files_digest(find_pipeline(source), tokenizers, "synthesis.pipeline"),
    }  # fmt: skip
    about = {
        "source": "language model", "model": model, "encoder": clip.checkpoint, "pipeline": source,
        "versions": versions(), "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip

    def describer() -> Callable[[str], Described]:
        features = None if model == GRAMMAR else text_features(checkpoint)
        rules = Rules(class_names, fitting(checkpoint, source), features)
        ask = grammar_asker(config) if model == GRAMMAR else model_asker(model, examples)
        return lambda name: describe(ask, name, rules, synthesis.descriptions, config.seed)

    return obtain_prompts(made_of, about, class_names, describer)


def grammar_for(config: ConfigDict) -> grammar.Grammar:
    """Words of rendered type for the generator that has learnt nothing else."""
    return grammar.TYPE if config.synthesis.source == "pocket" else grammar.PHOTOGRAPHS


def grammar_of(config: ConfigDict) -> dict:
    """What the grammar's descriptions are made of."""
    return {"grammar": [grammar_for(config).form, grammar_for(config).parts]}


def grammar_asker(config: ConfigDict) -> Ask:
    """The grammar in a language model's place."""
    chosen = grammar_for(config)
    return lambda name, answers, seed: ["\n".join(grammar.descriptions(chosen, name, LINES * answers, seed))]


def asked_model(model: str, examples: dict[str, str]) -> dict:
    """What a language model's descriptions are made of."""
    directory = language_model.find_model(model)
    paths = sorted(path for path in directory.iterdir() if path.suffix in language_model.COUNTED and path.is_file())
    return {
        "weights_sha256": files_digest(directory, paths, descriptions.FIELD),
        "instruction": language_model.INSTRUCTION,
        "examples": examples,
        "sampling": {**language_model.SAMPLING, "tokens": language_model.TOKENS},
    }


def model_asker(model: str, examples: dict[str, str]) -> Ask:
    """The language model, loaded."""
    return language_model.asker(language_model.load_model(language_model.find_model(model)), model, examples)


def versions() -> dict[str, str]:
    """Of what describes."""
    packages = ("torch", "transformers", "numpy")
    return {name: importlib.metadata.version(name) for name in packages} | {"python": platform.python_version()}


def tokenizer_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """The files of a diffusers pipeline's tokenizers."""
    return sorted(path for path in directory.glob("tokenizer*/*") if path.is_file())


def fitting(checkpoint, pipeline: str) -> Callable[[str], bool]:
    """Whether a text is read to its end by the encoder's text tower and by the generator."""
    own, others = checkpoint.encoder.tokenizer, load_tokenizers(find_pipeline(pipeline))

    def fits(text: str) -> bool:
        try:
            own([text])
        except UsageError:  # longer than the text tower's context
            return False
        return all(len(each(text, verbose=False).input_ids) <= each.model_max_length for each in others)

    return fits


def text_features(checkpoint) -> Callable[[Sequence[str]], np.ndarray]:
    """B texts to unit features [B, D] of the run's encoder."""
    from cachefl_jax.clip.model import compiled_features

    encoder, size = checkpoint.encoder, LINES * descriptions.AT_ONCE
    _, compute = compiled_features(encoder.model)

    def features(texts: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(texts), size):
            ids = encoder.tokenizer(texts[start : start + size])
            filled = np.concatenate([ids, np.repeat(ids[-1:], size - len(ids), axis=0)])  # one shape, one program
            found.append(np.asarray(compute(filled), np.float64)[: len(ids)])
        each = np.concatenate(found)
        return each / np.linalg.norm(each, axis=1, keepdims=True)

    return features
