"""Leads a pilot: the rounds between real sites, over Flower; no image leaves a site.

    cachefl server --config=FILE.py --workdir=runs/pilot --sites=site1,site2 --address=0.0.0.0:9092 \\
        --ssl_certfile=server.pem --ssl_keyfile=server.key --ssl_ca_certfile=ca.pem

Each site starts cachefl site. docs/pilot.md tells what travels.
"""

import pathlib

from absl import flags

from cachefl_jax import interrupts
from cachefl_jax.commands import command
from cachefl_jax.config import resolve
from cachefl_jax.errors import UsageError

command.define("config", "workdir")
if "sites" not in flags.FLAGS:
    flags.DEFINE_list("sites", None, "the names of all sites, separated by commas")
    flags.DEFINE_string("address", "127.0.0.1:9092", "HOST:PORT at which sites reach the server")
    flags.DEFINE_float("round_seconds", 600.0, "seconds after which a round goes on without a site", lower_bound=1)
    flags.DEFINE_float("late_seconds", 0.0, "seconds after a round's last answer in which a further one has to come, "
                       "else it goes on without those sites; 0: none of its own", lower_bound=0)  # fmt: skip
    command.define_path("ssl_certfile", "a PEM file: the server's certificate")
    command.define_path("ssl_keyfile", "a PEM file: the server's private key")
    command.define_path("ssl_ca_certfile", "a PEM file: who vouches for the certificate")


if "wait" not in flags.FLAGS:
    flags.DEFINE_float("wait", 600.0, "seconds in which all sites have to come", lower_bound=0)
if "insecure" not in flags.FLAGS:
    flags.DEFINE_boolean("insecure", False, "send everything in the clear, without TLS")


def main() -> None:
    config, workdir = resolve(command.required("config")), pathlib.Path(command.required("workdir"))
    sites = command.required("sites")
    if len(set(sites)) < len(sites) or not all(sites):
        raise UsageError("--sites", ",".join(sites), "a name of its own for each site", "correct the list")
    # Imported late: what is wrong with the config is said at once, not after JAX has loaded.
    from cachefl_jax.pilot.flower import lead, tls_of_server

    given = (flags.FLAGS[f"ssl_{name}"].value for name in ("certfile", "keyfile", "ca_certfile"))
    tls = tls_of_server(flags.FLAGS.insecure, *given)
    interrupts.request.hint = "a pilot begins anew, in another folder"
    pilot = {"sites": sites} | {name: flags.FLAGS[name].value for name in ("wait", "round_seconds", "late_seconds")}
    lead(config, workdir.absolute(), pilot, flags.FLAGS.address, tls)


def start() -> None:
    command.run(main)
