"""Predicts the classes of new images, or of features, by the model that a run left: a CSV or JSON table.

    python -m experiments.predict --model=runs/digits/cache.safetensors PHOTOS [--output=predictions.csv]

PHOTOS are folders, image files, or one .npy or .npz of features. Each line has the file, the predicted class, its
probability, that of every class, and of a cache the nearest keys. The table goes to stdout unless --output names a .csv
or a .json.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import command, given_images
from cachefl_jax.errors import UsageError

ARRAYS = (".npy", ".npz")

command.define_path("model", "the cache.safetensors or model.safetensors of a run")
command.define_path("output", "where the table goes: a .csv or .json; stdout by default")


def define_flags() -> None:
    given_images.define_flags()
    flags.DEFINE_bool("evaluate", False, "tell the accuracy on images in folders that are named after their class")


def main(paths: Sequence[str]) -> None:
    path, output = pathlib.Path(command.required("model")), flags.FLAGS.output
    if not paths:
        raise UsageError("paths", "nothing", "folders, image files, or a .npy or .npz", "name what to predict")
    if output and pathlib.Path(output).suffix not in (".csv", ".json"):
        raise UsageError("--output", output, "a .csv or a .json", "rename it")
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.deploy import table
    from cachefl_jax.deploy.model import read_model
    from cachefl_jax.deploy.predict import predict
    from cachefl_jax.simulation.environment import settle
    from cachefl_jax.storage.files import write_whole

    model = read_model(path)
    settle()
    names, features, labelled = given(model, paths)
    found = predict(model, features, flags.FLAGS.nearest)
    lines = table.lines(model, names, found, labelled and labelled.labels)
    if output:
        text = (table.as_json if output.endswith(".json") else table.as_csv)(lines)
        write_whole(pathlib.Path(output), lambda file: file.write(text))
    else:
        sys.stdout.buffer.write(table.as_csv(lines))
    if labelled:
        tell_accuracy(found.predicted, labelled)


def tell_accuracy(predicted, labelled) -> None:
    """How many images are right, and which folders were not scored: their name is no class's.

    Args:
        predicted: [n] the class of each image.
        labelled: `pictures.Labelled`."""
    for name, count in labelled.others.items():
        print(f"not scored: {name} ({count} images): not named after a class", file=sys.stderr)
    known, right = int((labelled.labels >= 0).sum()), int((predicted == labelled.labels).sum())
    total = labelled.folders + len(labelled.others)
    where = f"{known} images in {labelled.folders} of the {total} folders"
    print(f"accuracy {right / known:.4f}: {right} of {where}", file=sys.stderr)


def given(model, paths: Sequence[str]) -> tuple:
    """(what each row is called, features [n, D], `pictures.Labelled` or None) of what the words name.

    Raises UsageError: images or features cannot be had."""
    from cachefl_jax.deploy.predict import read_features

    arrays = [path for path in paths if path.endswith(ARRAYS)]
    if not arrays:
        return from_images(model, paths)
    if len(paths) > 1 or flags.FLAGS.evaluate:
        value = f"{arrays[0]} with {'--evaluate' if len(paths) == 1 else 'other paths'}"
        raise UsageError("paths", value, "one file of features alone, whose rows have no folders", "leave the rest out")
    features = read_features(pathlib.Path(arrays[0]))
    return [f"{arrays[0]}[{row}]" for row in range(len(features))], features, None


def from_images(model, paths: Sequence[str]) -> tuple:
    """`given` of image files; those that cannot be decoded are told one a line."""
    from cachefl_jax.deploy.pictures import features_of, labels_of

    files = given_images.sound_files(paths)
    labelled = labels_of(model, files) if flags.FLAGS.evaluate else None
    return files, features_of(model, files, flags.FLAGS.checkpoint), labelled


def start() -> None:
    define_flags()
    command.run(main, words=True)
