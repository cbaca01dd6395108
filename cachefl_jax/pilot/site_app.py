"""The Flower ClientApp of a site. Flower starts a process of it for every message; what it has to remember lies in the
message's context, which stays at the site.

The site's node config names its file: `site="/path/site.json"`, which `cachefl site` writes.
"""

import functools
import json
import pathlib
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from ml_collections import ConfigDict

from cachefl_jax.config import from_json, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.limits import agreed_fields, check_agreed
from cachefl_jax.pilot.messages import SETUP, answer_record, arrays_of, refusal_in, refusal_record, server_of
from cachefl_jax.pilot.site_data import read_site
from cachefl_jax.pilot.site_process import tell, to_end
from cachefl_jax.pilot.work import SiteWork
from cachefl_jax.simulation.devices import use_engine

app = ClientApp()


def told_in_words(answer: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """The handler of a message; what is wrong at the site ends it, and travels to the server as well."""

    @functools.wraps(answer)
    def handler(message: Message, context: Context) -> Message:
        try:
            content = answer(message, context)
        except UsageError as error:
            content = refusal_record(error, name_of(context))
            if folder := folder_of(context):
                to_end(folder, **error.fields)
        return Message(content, reply_to=message)

    return handler


@app.query("setup")
@told_in_words
def setup(message: Message, context: Context) -> RecordDict:
    """Keeps what the server sent, once the two agree; says the site's name and how many rows it has."""
    name, config, data = site_of(context)
    told = message.content["told"]
    check_agreed(agreed_fields(config), json.loads(told["agreed"]))
    server = server_of(message.content)
    found = read_site(config, data, server.class_names, told["weights"], json.loads(told["folders"]))
    split = found.split
    if split.features.shape[1] != server.text.shape[1]:
        allowed = f"[n, {server.text.shape[1]}], as wide as the server's"
        raise UsageError("--data", f"features {split.features.shape}", allowed, "encode with the server's CLIP")
    context.state[SETUP] = told
    context.state["server"] = message.content["server"]
    for line in (*found.notes, f"{name}: {len(split.labels)} rows, ready for the first round"):
        tell(folder_of(context), line)
    return RecordDict({"site": ConfigRecord({"name": name, "rows": len(split.labels)})})


@app.query("refused")
def refused(message: Message, context: Context) -> Message:
    """The server does not take this site, which ends."""
    _, error = refusal_in(message.content)
    to_end(folder_of(context), **error.fields)
    return Message(RecordDict(), reply_to=message)


@app.query("ended")
def ended(message: Message, context: Context) -> Message:
    """The pilot has ended, and so does this site."""
    rounds = int(message.content["ended"]["rounds"])
    if rounds < 0:
        value, allowed = "ended the pilot without a result", "a server that leads the pilot to its end"
        to_end(folder_of(context), **UsageError("--server", value, allowed, "ask there what happened").fields)
    else:
        to_end(folder_of(context), line=f"the pilot is done, after {rounds} rounds")
    return Message(RecordDict(), reply_to=message)


@app.train()
@told_in_words
def train(message: Message, context: Context) -> RecordDict:
    """A round's work on the site's rows."""
    _, config, data = site_of(context)
    use_engine(config.engine)
    told, numbers = context.state[SETUP], message.content["round"]
    server = server_of(RecordDict({"told": told, "server": context.state["server"]}))
    split = read_site(config, data, server.class_names, told["weights"], json.loads(told["folders"])).split
    work = SiteWork(config, server, split, numbers["largest"])
    update, loss = work.train(arrays_of(message.content["params"]), numbers["number"], numbers["client"])
    tell(
        folder_of(context), f"round {numbers['number'] + 1}: trained on {len(split.labels)} rows, mean loss {loss:.4f}"
    )
    return answer_record(update, loss)


def folder_of(context: Context) -> pathlib.Path | None:
    """Where the site keeps its files; None where its node config names none."""
    file = context.node_config.get("site")
    return pathlib.Path(str(file)).parent if file and pathlib.Path(str(file)).parent.is_dir() else None


def name_of(context: Context) -> str:
    """The site's name, as far as it is known."""
    try:
        return site_of(context)[0]
    except UsageError:
        return "a site"


def site_of(context: Context) -> tuple[str, ConfigDict, str]:
    """(name, config, data) of this site. Raises UsageError: its node config names no file of `cachefl site`."""
    try:
        fields = json.loads(pathlib.Path(context.node_config["site"]).read_text())
        return fields["name"], resolve(from_json(fields["config"])), fields["data"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        allowed = "site=FILE with the file that cachefl site writes"
        raise UsageError(
            "--node-config", f"{dict(context.node_config)} ({error})", allowed, "start cachefl site"
        ) from error
