"""What `cachefl site` does while Flower's SuperNode works: it tells in lines what a person at the site has to know, and
ends with one when the pilot has ended, the site is refused, or its server is gone.

What Flower itself says goes to flower.log in the site's folder. The site's app, a process of its own for each message,
leaves its lines in told.log there, and in end.json how the site is to end.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.flower import Tls, answers, environment, free_port, place_of, print_new, program
from cachefl_jax.pilot.supernode import PARENT
from cachefl_jax.storage.files import json_if_whole, write_json
from cachefl_jax.storage.home import home

TOLD, END, LOG = "told.log", "end.json", "flower.log"
GONE = 60  # seconds without the server after which Flower's SuperNode gives up
LAST_ANSWER = 30.0  # seconds in which the SuperNode may still send the answer to the message that ended the site
LINGER = 5.0  # seconds in which the server takes it: Flower drops the answers of a node that has left
ENDING = 10.0  # seconds in which the SuperNode may leave by itself
LOOK = 0.3  # seconds between two looks
START = (sys.executable, "-m", "cachefl_jax.pilot.supernode")  # in place of flower-supernode
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def site_file(config: ConfigDict, data: str, name: str) -> pathlib.Path:
    """Writes what a site's processes need to know, and says where; what an earlier start has left is removed."""
    file = home() / "pilot" / folder_name(name) / "site.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for left in (TOLD, END, LOG):
        (file.parent / left).unlink(missing_ok=True)
    write_json(file, {"name": name, "data": data, "config": json.loads(json.dumps(config.to_dict()))})
    return file


def folder_name(name: str) -> str:
    """A site's name as that of its folder: its letters in any script; a digest tells it from others that a file system
    might not tell apart."""
    readable = re.sub(r"[^\w.@-]", "_", name)
    plain = readable == name and name.isascii() and name == name.lower() and not name.startswith(".")
    return name if plain else f"{readable[:60].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def tell(folder: pathlib.Path, line: str) -> None:
    """Leaves a line for the person at the site."""
    with (folder / TOLD).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def to_end(folder: pathlib.Path, **how: str) -> None:
    """Leaves how the site is to end: by a `line`, or by the fields of a UsageError."""
    write_json(folder / END, how)


def await_server(server: str, seconds: float) -> None:
    """Until somebody listens at the address. Raises UsageError: it is no address, or nobody does in this time."""
    place, ends = place_of("--server", server), time.monotonic() + seconds
    if answers(place):
        return
    print(f"nobody listens at {server} yet: trying for {seconds:g} seconds", file=sys.stderr, flush=True)
    while not answers(place):
        if time.monotonic() > ends:
            allowed = "the address of cachefl server, which has been started"
            raise UsageError(
                "--server", f"{server} (nobody listens there)", allowed, "start it, or correct the address"
            )
        time.sleep(LOOK)


def site_command(server: str, file: pathlib.Path, tls: Tls) -> list[str]:
    """The words that start a site's SuperNode."""
    words = [program("flower-supernode"), *tls.words, "--superlink", server, "--host", "127.0.0.1"]
    words += ["--port", str(free_port()), "--max-wait-time", str(GONE)]
    return [*words, "--node-config", f"site={json.dumps(str(file))}"]


class SuperNode:
    """A SuperNode that runs, and what it has said.

    Args:
        words: as of `site_command`.
        folder: the site's.
    """

    def __init__(self, words: list[str], folder: pathlib.Path):
        self.folder, self.sent, self.lost, self.other = folder, 0, False, False
        variables = environment(folder) | {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*START, *words[1:]], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=variables, start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self.heed, args=(" ".join(words),), daemon=True)
        self.reader.start()

    def heed(self, first: str) -> None:
        """Writes the log, without colours, and notes what matters in it."""
        with (self.folder / LOG).open("w", encoding="utf-8") as log, self.process.stdout:
            log.write(first + "\n")
            for line in self.process.stdout:
                text = COLOURS.sub("", line.decode(errors="replace"))
                log.write(text)
                log.flush()
                self.sent += "Sent successfully" in text
                self.lost = self.lost or "Giving up reconnection" in text
                self.other = self.other or "401 Unauthorized" in text

    def end(self) -> None:
        """Ends it, with whatever it has started."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(ENDING)  # nobody is left to write: it comes to the end of what was said


@contextlib.contextmanager
def supernode(words: list[str], folder: pathlib.Path) -> Iterator[SuperNode]:
    """A SuperNode, until the context ends."""
    node = SuperNode(words, folder)
    try:
        yield node
    finally:
        node.end()


def attend(server: str, file: pathlib.Path, tls: Tls) -> None:
    """Runs a site's SuperNode and prints the site's lines until the pilot has ended.

    Raises UsageError: the site is refused, its server is gone, or the SuperNode ends by itself."""
    folder, printed = file.parent, 0
    with supernode(site_command(server, file, tls), folder) as node:
        while True:
            left = json_if_whole(folder / END)
            printed = print_new(folder / TOLD, printed)
            if left:
                await_last_answer(node)
                print_new(folder / TOLD, printed)
                return leave(left)
            check_there(node, server)
            time.sleep(LOOK)


def await_last_answer(node: SuperNode) -> None:
    """Until the server has had time to take the answer to the message that ended the site."""
    before, ends = node.sent, time.monotonic() + LAST_ANSWER
    while node.sent == before and node.process.poll() is None and time.monotonic() < ends:
        time.sleep(LOOK)
    time.sleep(LINGER)


def leave(how: dict) -> None:
    """Says how the pilot ended for this site. Raises UsageError: it was refused."""
    if "line" not in how:
        raise UsageError(how["field"], how["value"], how["allowed"], how["mend"])
    print(how["line"], flush=True)


def check_there(node: SuperNode, server: str) -> None:
    """Raises UsageError: the server is gone, or the SuperNode is."""
    if node.other:
        value = f"{server} (now another server's: it does not know this site)"
        raise UsageError("--server", value, "the server with which the site began", "start the site again")
    if node.lost:
        value = f"{server} (gone for {GONE} seconds)"
        raise UsageError("--server", value, "a server that answers until the pilot is done", "ask there what happened")
    if node.process.poll() is not None:
        value = f"ended by itself, with status {node.process.returncode}"
        raise UsageError("flower-supernode", value, "one that runs", f"see {node.folder / LOG}")
