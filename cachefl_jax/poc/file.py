"""config.py in the folder of a proof of concept: the same again, for a person to change."""

import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config import resolve
from cachefl_jax.configs import poc
from cachefl_jax.storage.files import write_whole

TEXT = '''"""This proof of concept. Change what you like, and run it into a new folder:

    cachefl poc --config={path} --workdir=DIR
"""

from cachefl_jax.configs import poc


def get_config():
    config = poc.get_config()
{lines}
    return config
'''


def write_config(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The fields in which the config differs from the shipped one, as a config file."""
    theirs, ours = flat(resolve(config)), flat(poc.get_config())
    lines = [f"    config.{field} = {value!r}" for field, value in theirs.items() if ours.get(field, ours) != value]
    path = workdir / "config.py"
    text = TEXT.format(path=path.absolute(), lines="\n".join(lines))
    write_whole(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def flat(config: ConfigDict, before: str = "") -> dict:
    """Values by dotted names."""
    found = {}
    for name, value in config.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, ConfigDict) else {f"{before}{name}": value}
    return found
