"""What every command shares: flags, and bad input told in one line with exit status 2."""

import functools
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from cachefl_jax import interrupts
from cachefl_jax.commands import as_called, called
from cachefl_jax.commands.flag_errors import check_returned, config_file, explain
from cachefl_jax.commands.named_flags import CONFIGS, ConfigFileParser, config_on
from cachefl_jax.config.components import own_fields
from cachefl_jax.config.listing import listing
from cachefl_jax.config.paths import expand
from cachefl_jax.errors import UsageError, refusal
from cachefl_jax.storage.home import home

HELP = frozenset(("--help", "-help", "-h", "-?", "--helpfull", "--helpshort"))


def define(*names: str) -> None:
    """Defines the shared flags a command takes: 'config', 'workdir', 'processes'. Twice does no harm, so that a process
    may import several commands."""
    if "config" in names and "config" not in flags.FLAGS:
        meaning = f"FILE.py[:arg] or one of {', '.join(CONFIGS)}; --config.NAME=VALUE sets a field ({called('fields')})"
        try:
            config_flags.DEFINE_config_file("config", None, meaning, lock_config=True)
            flags.FLAGS["config"].parser = ConfigFileParser(sys.argv)
        except flags.Error as error:  # it reads the command line already
            leave(explain(sys.argv, error))
    if "workdir" in names and "workdir" not in flags.FLAGS:
        define_path("workdir", "the folder of a run")
    if "processes" in names and "processes" not in flags.FLAGS:
        flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0; auto: Slurm or the TPU pod tells")
        flags.DEFINE_integer("processes", 1, "how many processes run this command together")
        flags.DEFINE_integer("process", None, "which of them this is, from 0")


class PathParser(flags.ArgumentParser):
    """A path on the command line; `cachefl_jax.config.paths` says what it means."""

    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        if argument.startswith("--"):  # the flag after one whose value was forgotten, which absl would take for it
            raise UsageError(
                "path", argument, "a path, after an = sign", "give the flag its value; ./ before such a name"
            )
        return expand("path", argument)


def define_path(name: str, meaning: str, *, several: bool = False, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines a flag that names a file or a folder, or `several` of them; None where it is not given."""
    if several:
        flags.DEFINE_multi(PathParser(), flags.ArgumentSerializer(), name, None, meaning, flag_values=values)
    else:
        flags.DEFINE(PathParser(), name, None, meaning, flag_values=values)


def required(name: str):
    """The value of a flag. Raises UsageError: it was not given."""
    flag = flags.FLAGS[name]
    if flag.value is None:
        raise UsageError(f"--{name}", "nothing", flag.help, f"add --{name}=...")
    return flag.value


def run(main: Callable[..., None], *, words: bool = False) -> None:
    """Parses the flags and calls `main`, with the words that are no flags where it takes `words`. Wrong input, and a
    file system that refuses a file, are one line on stderr and exit status 2; a signal is one line and its own
    status."""

    def guarded(left: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # JAX tells of every backend that it does not find
        warnings.filterwarnings("ignore", module="PIL")  # it tells of every odd byte of EXIF in images it reads well
        try:
            home()  # a wrong CACHEFL_HOME is told before anything is computed
            main(*([left[1:]] if words else []))
            interrupts.unlisten()
            sys.stdout.flush()  # here, where a refusal can still be told
        except UsageError as error:
            leave(error)
        except OSError as error:
            told = refusal(error, places())
            if told is None:
                raise
            print(told, file=sys.stderr)
            interrupts.end(2)  # what threads still try to write would be told in pages
        except ValueError as error:
            told = bad_variable(error)
            if told is None:
                raise
            leave(told)

    in_utf8()
    open_streams()
    os.environ["MPLBACKEND"] = "agg"  # pictures go into pages; another backend could need a display, or not be there
    interrupts.listen()
    logging.set_verbosity(logging.ERROR)  # config_flags would warn of what `parse` tells in one line
    try:
        if help_wanted(sys.argv):
            try:
                show_help(sys.modules[main.__module__].__doc__ or "")
            except UsageError as error:  # a component that is not to be had
                leave(error)
            sys.stdout.flush()
            return
        app.run(guarded, flags_parser=functools.partial(parse, words=words))
    except interrupts.Interrupted as interrupted:
        interrupts.leave(interrupted)
    except BrokenPipeError:  # whoever read the output, such as head, has read enough
        os._exit(128 + signal.SIGPIPE)
    except OSError as error:  # what is printed has no room
        told = refusal(error, {})
        if told is None:
            raise
        print(told, file=sys.stderr)
        os._exit(2)  # the interpreter's end would print once more


def help_wanted(argv: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return not HELP.isdisjoint(argv[1:])


def show_help(purpose: str) -> None:
    """Prints what the command does, its own flags (not those of the libraries), and the fields of a config."""
    ours = [
        flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        if module.startswith(("cachefl_jax.", "experiments.")) or module == sys.argv[0]
        for flag in defined
    ]
    print(as_called(purpose.strip()))
    if ours:
        print("\nFlags:")
    for flag in sorted(ours, key=lambda flag: flag.name):
        print(f"--{flag.name}\n    {flag.help}" + ("" if flag.value is None else f" (default: {flag.value})"))
    if "config" in flags.FLAGS:
        fields = listing(own=own_fields(config_on(sys.argv)))
        print(f"\nFields of the config, with their defaults (a config file has its own):\n{fields}")


def bad_variable(error: ValueError) -> UsageError | None:
    """What is wrong with one of JAX's variables, which it reads when it is first imported; None for another error."""
    frames = [frame.filename.replace(os.sep, "/") for frame in traceback.extract_tb(error.__traceback__)]
    if not all(any(name.endswith(f"jax/{file}") for name in frames) for file in ("__init__.py", "_src/config.py")):
        return None
    given = " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("JAX_"))
    return UsageError("environment", f"{given} ({error})", "what JAX takes for each variable", "unset or correct it")


def open_streams() -> None:
    """Opens what the caller has closed of stdin, stdout and stderr, onto nothing: Python has None there, and the next
    file that is opened would get what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open until the process ends)


def in_utf8() -> None:
    """Starts the process anew in UTF-8 where the locale has another encoding: under plain ASCII no name with an umlaut
    reaches the libraries that read weights and write checkpoints. Python does the same for LANG=C (PEP 538)."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def places() -> dict[str, list[str]]:
    """The folders that a command writes to, by the flag or variable that names them."""
    values = {name: flags.FLAGS[name].value for name in ("workdir", "output") if name in flags.FLAGS}
    folders = {f"--{name}": [value] if isinstance(value, str) else value or [] for name, value in values.items()}
    return {**folders, "CACHEFL_HOME": [str(home())]}


def parse(argv: Sequence[str], *, words: bool = False) -> list[str]:
    """Parses the flags, among which words may stand; whatever is wrong with them becomes a `UsageError`'s line."""
    try:
        left = flags.FLAGS(expanded(argv))
        if left[1:] and not words:
            raise UsageError("command line", left[1], "flags only, --name=value", "put -- and = in")
        if "config" in flags.FLAGS and (flags.FLAGS["config"].present or flags.FLAGS.config is not None):
            config = flags.FLAGS.config
            getattr(config, "keys", None)  # a file that could not be loaded says so only when it is looked into
            check_returned(config_file(argv), config)
        return left
    except UsageError as error:
        leave(error)
    # A config file is the user's own program, and config_flags hands on whatever it raises.
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and any(word.lstrip("-").startswith("help") for word in argv[1:]):
            raise  # absl's own --helpxml
        leave(explain(argv, error))


def expanded(argv: Sequence[str]) -> list[str]:
    """The words with the ~ of --config=~/FILE replaced: a shell leaves it as it is, and so does the flag.

    Raises UsageError: there is no such home folder."""
    return [re.sub(r"^(--?config=)(~.*)", lambda found: found[1] + expand("--config", found[2]), word) for word in argv]


def leave(error: UsageError) -> None:
    print(error, file=sys.stderr)
    sys.exit(2)
