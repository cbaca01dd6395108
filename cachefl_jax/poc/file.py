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
    shipped = poc.get_config()
    base = shipped.copy_and_resolve_references()
    base.data.path = config.data.path
    ours, theirs, lines, groups = flat(resolve(config)), flat(resolve(base)), [], {}
    for field, value in ours.items():
        group, _, name = field.rpartition(".")
        if theirs.get(field, ours) != value and group and group not in shipped:  # a method's own
            groups.setdefault(group, {})[name] = value
        elif theirs.get(field, ours) != value or field == "data.path":
            lines.append(f"    config.{field} = {value!r}")
    lines += [f"    config.{group} = {values!r}" for group, values in groups.items()]
    path = workdir / "config.py"
    text = TEXT.format(path=path.absolute(), lines="\n".join(lines))
    write_whole(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def flat(config: ConfigDict, before: str = "") -> dict:
    """Values by dotted names."""
    found = {}
    for name, value in config.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, ConfigDict) else {f"{before}{name}": value}
    return found
