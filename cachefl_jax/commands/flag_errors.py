"""What is wrong with a command line or with a config file, in the words of a `UsageError`."""

import re
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import called
from cachefl_jax.commands.named_flags import CONFIGS
from cachefl_jax.config.fields import FIELDS
from cachefl_jax.errors import UsageError

UNKNOWN = re.compile(r"'(\w+)\\?'")  # a name in an AttributeError's text or a KeyError's
RUNS = "a Python file whose get_config() runs"


def config_file(argv: Sequence[str]) -> str:
    """The config file that the words name, without what stands behind its colon."""
    told = " ".join(argv[1:])
    found = re.search(r"(?:^| )--?config[= ](.*?)(?= -|$)", told)
    return found[1] if found else "none"


def check_returned(file: str, returned: object) -> None:
    """Whether a config file's get_config() gave a config: config_flags takes whatever it returns.

    Raises UsageError: it gave something else."""
    if isinstance(returned, dict) or not hasattr(returned, "keys"):
        value = f"{file} (get_config() returned {type(returned).__name__})"
        mend = "change what cachefl_jax.config.default() gives, and return that"
        raise UsageError("--config", value, "a Python file whose get_config() returns a config", mend)


def explain(argv: Sequence[str], error: BaseException) -> UsageError:
    """A flag error in the words of a `UsageError`."""
    file, text = config_file(argv), " ".join(str(error).split())
    illegal = re.match(r"flag --(\S+?)=(.*?): (.*)", text)
    if illegal and isinstance(error.__context__, UsageError):  # a flag's own parser, such as `PathParser`, told it
        told = error.__context__
        if illegal[1] == "config":
            return told  # of a component that it names
        return UsageError(f"--{illegal[1]}", told.value, told.allowed, told.mend)
    if isinstance(error, SystemExit):
        return UsageError("--config", f"{file} (it ends the program)", RUNS, "correct it")
    if "Traceback" in str(error):  # the file's own exception, of which its last line tells
        text = str(error).strip().splitlines()[-1]
        return UsageError("--config", f"{file} ({text})", RUNS, "correct it")
    if isinstance(error, AttributeError) or (isinstance(error, KeyError) and field_with(argv, text)):
        return unknown_name(argv, text)
    if illegal and " as tuple." in illegal[3]:
        form = f"""texts in quotes, such as --{illegal[1]}="('cachefl','ridge')\""""
        return UsageError(illegal[1], illegal[2], form, "quote each of them")
    if illegal:
        return UsageError(illegal[1], illegal[2], f"a value of the field's type ({illegal[3]})", "correct the value")
    if isinstance(error, flags.UnrecognizedFlagError) and is_field(error.flagname):
        mend = f"--config.{error.flagname}=..."
        return UsageError("command line", f"--{error.flagname}", "fields as flags that begin with --config.", mend)
    if isinstance(error, flags.Error):
        return UsageError("command line", text, "this command's flags, see --help", "correct the flag")
    allowed = f"a Python file with get_config(), which returns a config, or one of {', '.join(CONFIGS)}"
    text = "no such file" if "[Errno 2]" in text else text
    return UsageError("--config", f"{file} ({text})", allowed, "correct the path or the file")


def is_field(name: str) -> bool:
    """Whether a field of a config is called so."""
    return any(field.name == name for field in FIELDS)


def field_with(argv: Sequence[str], text: str) -> str:
    """The field on the command line that has the name which `text` says is unknown; '' where none has."""
    given, unknown = [word.split("=")[0].lstrip("-") for word in argv], UNKNOWN.search(text)
    return next((name for name in given if unknown and unknown[1] in name.split(".")[1:]), "")


def unknown_name(argv: Sequence[str], text: str) -> UsageError:
    """A name that a config file or a config lacks, as an error's `text` tells it."""
    file = config_file(argv)
    if "'get_config'" in text:
        return UsageError("--config", f"{file} (no get_config())", "a Python file with get_config()", "define it")
    unknown = UNKNOWN.search(text)
    if not unknown:
        return UsageError("--config", f"{file} ({text})", RUNS, "correct it")
    field = field_with(argv, text) or unknown[1]
    guess = re.search(r'Did you mean "([^"]+)"', text)
    mend = f"did you mean {guess[1]}?" if guess else "correct the name"
    return UsageError(field, "no such field", f"the fields that {called('fields')} lists", mend)
