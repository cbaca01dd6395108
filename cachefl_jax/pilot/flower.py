"""Flower's own programs, as `cachefl server` and `cachefl site` start them: `flower-superlink`, `flower-supernode` and
`flwr run`. Nothing is fetched, and nothing is told to Flower: no telemetry, no look for newer versions."""

import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config import validate
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import json_if_whole, write_json
from cachefl_jax.storage.run_files import PILOT

PACKAGE = pathlib.Path(__file__).parents[1]
STARTING = 60.0  # seconds that a SuperLink may take to listen
ENDED = "flower/ended"  # in a pilot's folder, once its ServerApp has come to an end
REFUSED = "flower/refused.json"  # there, the fields of the UsageError by which it did
LOOKS = 30  # seconds between two questions after a run that has said nothing of its end: it may have crashed
CONNECTION = "pilot"  # in Flower's config.toml
LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class Tls(NamedTuple):
    """How a connection is made."""

    words: tuple[str, ...]  # Flower's flags
    authority: str | None  # the PEM file that vouches for the server; None: there is no TLS


def tls_of_site(insecure: bool, authority: str | None) -> Tls:
    """A site's. Raises UsageError: neither a certificate nor --insecure is given, or both are."""
    check_tls(insecure, {"--root_certificates": authority})
    return Tls(("--insecure",), None) if insecure else Tls(("--root-certificates", authority), authority)


def tls_of_server(insecure: bool, certificate: str | None, key: str | None, authority: str | None) -> Tls:
    """The server's. Raises UsageError: as `tls_of_site`."""
    files = {"--ssl_certfile": certificate, "--ssl_keyfile": key, "--ssl_ca_certfile": authority}
    check_tls(insecure, files)
    words = [word for flag, file in files.items() for word in (flag.replace("_", "-"), file)]
    return Tls(("--insecure",), None) if insecure else Tls(tuple(words), authority)


def check_tls(insecure: bool, files: dict[str, str | None]) -> None:
    """Raises UsageError: what is asked for is no secure connection, nor clearly an insecure one."""
    allowed = f"{' and '.join(files)} with PEM files, or --insecure, which sends everything in the clear"
    for flag, file in files.items():
        if insecure and file is not None:
            raise UsageError(flag, file, "nothing with --insecure", "leave one of them out")
        if not insecure and file is None:
            raise UsageError(flag, "nothing", allowed, "add it; --insecure only where all sites are on this machine")
        if file is not None and not os.path.isfile(file):
            raise UsageError(flag, file, "an existing PEM file", "correct the path")


def check_installed() -> None:
    """Raises UsageError: Flower is not installed."""
    if importlib.util.find_spec("flwr") is None:
        raise UsageError("flwr", "not installed", "Flower 1.42 or newer", "pip install 'cachefl_jax[flower]'")


def environment(folder: pathlib.Path) -> dict[str, str]:
    """Of Flower's programs, which keep their files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    more = {
        "FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])),
    }  # fmt: skip
    return {**os.environ, **more}


def program(name: str) -> str:
    """The path of one of Flower's programs: beside this Python. Raises UsageError: it is not there."""
    check_installed()
    return os.path.join(os.path.dirname(sys.executable), name)


def place_of(field: str, address: str) -> tuple[str, int]:
    """(host, port). Raises UsageError: the address has no port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UsageError(field, address, "HOST:PORT", "add the port")
    return host, int(port)


def free_port() -> int:
    """A port of this machine that nobody has at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def answers(place: tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    host, port = place
    try:
        socket.create_connection((host.strip("[]"), port), timeout=5).close()
    except OSError:
        return False
    return True


def lead(config: ConfigDict, workdir: pathlib.Path, pilot: dict, address: str, tls: Tls) -> None:
    """Runs a pilot in a new folder and prints how it goes; `pilot` as of `serve`.

    Raises UsageError: the folder, the address or the config is wrong, or the pilot could not end."""
    from cachefl_jax.pilot.limits import check_pilot, of_sites

    host, port = place_of("--address", address)
    check_installed()
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise UsageError("--workdir", str(workdir), "a new or empty folder: a pilot begins anew", "name another")
    if answers((LOOPBACK.get(host, host), port)):
        raise UsageError("--address", f"{address} (taken)", "a port that nobody has", "choose another")
    check_pilot(config)
    config = of_sites(config, len(pilot["sites"]))
    validate(config)  # a cohort may be more than there are sites
    check_inputs(config)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(json.dumps(config.to_dict())))
    write_json(workdir / PILOT, pilot)
    variables = environment(workdir / "flower")
    with superlink(workdir, (host, port), tls, variables):
        print(f"listening at {address}, waiting for {', '.join(pilot['sites'])}", flush=True)
        flwr = Flwr(variables, address_file(workdir / "flower", (LOOPBACK.get(host, host), port), tls))
        run = flwr("run", str(PACKAGE / "pilot" / "app"), CONNECTION, "-c", f"workdir={json.dumps(str(workdir))}")
        follow(workdir, flwr, run["run-id"])


def check_inputs(config: ConfigDict) -> None:
    """Reads and encodes what the server brings before a site is asked. Raises UsageError: as `inputs_of_server`, or the
    method does not go with it."""
    from cachefl_jax.methods import find_method
    from cachefl_jax.pilot.serve import inputs_of_server
    from cachefl_jax.simulation.devices import use_engine

    use_engine(config.engine)
    method, server = find_method(config.method), inputs_of_server(config).server
    method.init(server, config)
    method.freeze(server, config)


def address_file(folder: pathlib.Path, place: tuple[str, int], tls: Tls) -> pathlib.Path:
    """Writes Flower's config.toml, by which `flwr` finds the SuperLink."""
    secure = "insecure = true" if tls.authority is None else f"root-certificates = {json.dumps(tls.authority)}"
    address = f'address = "{place[0]}:{place[1]}"'
    file = folder / "config.toml"
    file.write_text(f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n{address}\n{secure}\n')
    return file


@contextlib.contextmanager
def superlink(workdir: pathlib.Path, place: tuple[str, int], tls: Tls, variables: dict) -> Iterator[None]:
    """A SuperLink that listens, until the context ends. Raises UsageError: it does not come to listen."""
    words = [program("flower-superlink"), *tls.words, "--host", place[0], "--port", str(place[1])]
    log = workdir / "flower.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*words, "--disable-runtime-dependency-installation"], stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=variables,
        )  # fmt: skip
        try:
            ends = time.monotonic() + STARTING
            while not answers((LOOPBACK.get(place[0], place[0]), place[1])):
                if process.poll() is not None or time.monotonic() > ends:
                    allowed = "an address and certificates with which Flower's SuperLink starts"
                    raise UsageError("--address", f"{place[0]}:{place[1]}", allowed, f"see {log}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


class Flwr:
    """Calls of `flwr`, each answered by JSON."""

    def __init__(self, variables: dict[str, str], config: pathlib.Path):
        self.variables, self.config = variables, config

    def __call__(self, *words: str) -> dict:
        """What it answers. Raises UsageError: it does not do what it is asked for."""
        command = [program("flwr"), *words, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.variables, stdin=subprocess.DEVNULL)
        try:
            told = json.loads(done.stdout)
        except ValueError:
            told = {"error-message": f"{done.stdout} {done.stderr}"}
        if not told.get("success"):
            value = str(told.get("error-message", told)).strip()[:500]
            raise UsageError(f"flwr {words[0]}", value, "a SuperLink that answers", f"see {self.config.parent.parent}")
        return told


def follow(workdir: pathlib.Path, flwr: Flwr, run: str) -> None:
    """Prints what the ServerApp says until its run has ended.

    Raises UsageError: what the ServerApp raised, or Flower's words where it raised something else."""
    log, printed, status = workdir / "pilot.log", 0, {"status": ""}
    while not status["status"].startswith("finished"):
        for _ in range(LOOKS):
            time.sleep(1)
            printed = print_new(log, printed)
            if (workdir / ENDED).exists():
                break
        status = flwr("ls", CONNECTION, "--run-id", run)["runs"][0]
    print_new(log, printed)
    if refused := json_if_whole(workdir / REFUSED):
        raise UsageError(**refused)
    if status["status"] != "finished:completed":
        why = str(status["status-details"]).removeprefix("ServerApp failed with exception: ")
        raise UsageError("pilot", f"{status['status']} ({why})", "a run that ends", f"see {workdir / 'flower.log'}")
    write_json(workdir / "network.json", status["network-traffic"])
    print(f"{workdir}: done")


def print_new(log: pathlib.Path, printed: int) -> int:
    """Prints the lines that have come since, and says how many there are now."""
    lines: Sequence[str] = log.read_text(encoding="utf-8").splitlines() if log.is_file() else ()
    for line in lines[printed:]:
        print(line, flush=True)
    return len(lines)
