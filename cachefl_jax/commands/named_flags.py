"""Components that a command line names, read before its flags are: the fields that they bring are flags too."""

import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser
from ml_collections.config_flags.tuple_parser import TupleParser

from cachefl_jax import configs
from cachefl_jax.config import default, lookup
from cachefl_jax.config.components import COMPONENTS, fit_fields
from cachefl_jax.errors import UsageError

FOLDER = pathlib.Path(configs.__file__).parent
CONFIGS = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.rglob("[a-z]*.py"))}


def config_path(given: str) -> str:
    """FILE.py[:arg] of what --config says, where NAME[:arg] stands for a config that the package brings."""
    name, *variant = given.split(":", 1)
    return ":".join([str(CONFIGS.get(name, name)), *variant])


class ConfigFileParser(ConfigFileFlagParser):
    """Reads a config file; its config gets the fields of the components that it and the command line name."""

    def __init__(self, argv: Sequence[str]):
        super().__init__(name="config", lock_config=True)
        # Its loader warns on Python 3.11, which PYTHONWARNINGS=error makes a broken config file.
        warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
        self.argv = argv

    def parse(self, path: str) -> Any:
        config = super().parse(config_path(path))
        if isinstance(config, ConfigDict):  # else `check_returned` tells of it
            fit_fields(config, named_on(self.argv))
        return config


def named_on(argv: Sequence[str]) -> dict[str, Any]:
    """The values of the fields that name components, as the words give them."""
    values = flags.FlagValues()
    for field in COMPONENTS:
        if isinstance(lookup(default(), field), tuple):
            parser, serializer = TupleParser(), flags.ArgumentSerializer()
            flags.DEFINE_multi(parser, serializer, f"config.{field}", None, "", flag_values=values)
        else:
            flags.DEFINE_string(f"config.{field}", None, "", flag_values=values)
    try:
        values(flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False), known_only=True)
    except flags.Error:  # the command's own parser tells of it
        return {}
    told = {field: values[f"config.{field}"].value for field in COMPONENTS if values[f"config.{field}"].present}
    return {name: value if isinstance(value, str) else sum(value, ()) for name, value in told.items()}


def config_on(argv: Sequence[str]) -> ConfigDict:
    """The config that the words ask for, as far as its components go; the default one's where its file does not load.

    Raises UsageError: a component is not to be had."""
    files = [word.split("=", 1)[1] for word in argv[1:] if re.match("--?config=", word)]
    config: Any = default()
    if files:
        try:
            config = ConfigFileParser(argv).parse(files[-1])
        except (Exception, SystemExit) as error:  # it is the user's own program, and raises whatever it does
            if isinstance(error, UsageError):
                raise
    config = config if isinstance(config, ConfigDict) else default()
    fit_fields(config, named_on(argv))
    return config
