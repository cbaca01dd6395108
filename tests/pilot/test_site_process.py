"""A site's process around Flower's SuperNode: what it tells, and how it ends."""

import json
import re
import sys
import time

import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.pilot import site_process
from cachefl_jax.pilot.flower import tls_of_site
from cachefl_jax.pilot.site_process import END, LOG, attend, folder_name, tell, to_end

TRACEBACK = "\x1b[92mINFO\x1b[0m: up\nTraceback (most recent call last):\nHTTPStatusError: "


@pytest.fixture
def attended(tmp_path, monkeypatch, capsys):
    """(program) -> (what the site prints, the UsageError that ends it or None), with this Python program in place of
    Flower's SuperNode."""

    def run(program: str) -> tuple[str, str | None]:
        monkeypatch.setattr(site_process, "LINGER", 0.1)
        monkeypatch.setattr(site_process, "START", (sys.executable, "-c", program))
        try:
            attend("127.0.0.1:9092", tmp_path / "site.json", tls_of_site(True, None))
        except UsageError as error:
            return capsys.readouterr().out, str(error)
        return capsys.readouterr().out, None

    return run


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (TRACEBACK + "Client error '401 Unauthorized' for url", "now another server's: it does not know this site"),
        ("Giving up reconnection after 60.00 seconds", r"--server: got 127.0.0.1:9092 \(gone for 60 seconds\)"),
        ("", "flower-supernode: got ended by itself, with status 0"),
    ],
    ids=("other", "gone", "ended"),
)
def test_a_site_ends_with_its_server(attended, tmp_path, says, told):
    """In one line, whatever Flower says, which is in a log without colours; what still runs is ended."""
    began = time.monotonic()
    printed, error = attended(f"import time; print({says!r}, flush=True); time.sleep({3600 if says else 0})")
    assert printed == ""
    assert re.search(told, error)
    assert "\n" not in error
    assert time.monotonic() - began < 120
    log = (tmp_path / LOG).read_text()
    assert log.splitlines()[0].split()[0].endswith("flower-supernode")
    assert "\x1b" not in log


def test_a_site_ends_as_its_app_says(attended, tmp_path):
    """After its lines, which are told as they come, and once the last answer is on its way."""
    sent = "import time; time.sleep(1); print('Sent successfully', flush=True); time.sleep(3600)"
    tell(tmp_path, "Süd: 3 rows")
    to_end(tmp_path, line="the pilot is done, after 2 rounds")
    assert attended(sent) == ("Süd: 3 rows\nthe pilot is done, after 2 rounds\n", None)
    error = UsageError("--name", "east", "a name that the server expects", "ask at the server")
    to_end(tmp_path, **error.fields)
    assert attended(sent)[1] == str(error)
    assert json.loads((tmp_path / END).read_text())["field"] == "--name"


def test_folders_of_sites_keep_readable_letters():
    assert folder_name("klinik-3") == "klinik-3"
    names = ["Haus Süd", "haus süd", "NORD", "nord", "東京", "../up", ".hidden"]
    found = [folder_name(name) for name in names]
    assert [name.rpartition("-")[0] for name in found] == ["Haus_Süd", "haus_süd", "NORD", "", "東京", "_up", "hidden"]
    assert found[3] == "nord"
    assert len({name.lower() for name in found}) == len(names)
