"""The Flower ServerApp of a pilot: it asks the sites, adds their updates up, and writes the folder of a run.

The run config names the folder, `workdir="/path"`, in which `cachefl server` has put config.json and pilot.json.
"""

import json
import pathlib

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from cachefl_jax.config import from_json, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.flower import ENDED, REFUSED
from cachefl_jax.pilot.serve import serve
from cachefl_jax.storage.files import write_json
from cachefl_jax.storage.run_files import PILOT

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """The whole pilot. Raises UsageError: as `serve`; Flower tells of it as the run's details."""
    workdir = pathlib.Path(str(context.run_config["workdir"]))
    config = resolve(from_json(json.loads((workdir / "config.json").read_text())))
    try:
        serve(grid, config, workdir, json.loads((workdir / PILOT).read_text()))
    except UsageError as error:
        write_json(workdir / REFUSED, error.fields)
        raise
    finally:
        (workdir / ENDED).touch()
