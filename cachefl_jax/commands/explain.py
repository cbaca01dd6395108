"""Explains predictions by the images that a cache's nearest keys came from: a page.

    python -m experiments.explain --workdir=runs/digits PHOTOS --output=explain.html

PHOTOS are image files, and folders of them. For each the page has the predicted class, its probability, and the nearest
keys of the run's cache, each with the images of the server's set that it started from.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import command, given_images
from cachefl_jax.errors import UsageError

MOST = 1000  # images on a page

command.define("workdir")
command.define_path("output", "the .html file to write")


def main(paths: Sequence[str]) -> None:
    workdir, output = pathlib.Path(command.required("workdir")), pathlib.Path(command.required("output"))
    if not paths:
        raise UsageError("paths", "nothing", "image files, and folders of them", "name what to explain")
    if output.suffix != ".html":
        raise UsageError("--output", str(output), "a .html file", "rename it")
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.report import explained
    from cachefl_jax.simulation.environment import settle
    from cachefl_jax.simulation.explain import explanations, read_start

    values = flags.FLAGS
    start = read_start(workdir, values.checkpoint)
    files = given_images.sound_files(paths)
    if len(files) > MOST:
        raise UsageError("paths", f"{len(files)} images", f"at most {MOST}, as the page holds them all", "name fewer")
    settle()
    explained.write_page(output, explanations(start, files, max(values.nearest, 1)))
    print(output)


def start() -> None:
    given_images.define_flags()
    command.run(main, words=True)
