"""Takes part in a pilot with the images of one site, which stay here: a Flower SuperNode with the simulator's client.

    cachefl site --config=FILE.py --data=FOLDER --server=HOST:PORT --name=site1 --root_certificates=ca.pem

--data is a folder of class folders, or an .npz with train_features and train_labels. The config is the server's. A site
ends with the pilot, or by Ctrl-C. docs/pilot.md tells what travels.
"""

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.config import resolve

command.define("config")
if "data" not in flags.FLAGS:
    command.define_path("data", "the site's own rows: a folder of class folders, or an .npz")
    flags.DEFINE_string("server", None, "HOST:PORT of cachefl server")
    flags.DEFINE_string("name", None, "what the server calls this site in --sites")
    command.define_path("root_certificates", "a PEM file: who vouches for the server's certificate")


if "wait" not in flags.FLAGS:
    flags.DEFINE_float("wait", 600.0, "seconds in which the server has to be there", lower_bound=0)
if "insecure" not in flags.FLAGS:
    flags.DEFINE_boolean("insecure", False, "send everything in the clear, without TLS")


def main() -> None:
    config, data = resolve(command.required("config")), command.required("data")
    server, name = command.required("server"), command.required("name")
    # Imported late: what is wrong with the config is said at once, not after JAX has loaded.
    from cachefl_jax.pilot.flower import check_installed, tls_of_site
    from cachefl_jax.pilot.limits import check_pilot
    from cachefl_jax.pilot.site_process import attend, await_server, site_file

    tls = tls_of_site(flags.FLAGS.insecure, flags.FLAGS.root_certificates)
    check_installed()
    check_pilot(config)
    await_server(server, flags.FLAGS.wait)
    file = site_file(config, data, name)
    print(f"{name}: asking {server} to take part; what Flower says is in {file.parent / 'flower.log'}", flush=True)
    attend(server, file, tls)


def start() -> None:
    command.run(main)
