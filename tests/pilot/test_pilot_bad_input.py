"""What a person at a site or at the server may get wrong: a line each."""

import socket
import threading

import numpy as np
import pytest
from command_line import assert_refused

from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.flower import free_port, lead, place_of, tls_of_server, tls_of_site
from cachefl_jax.pilot.site_data import read_site
from cachefl_jax.pilot.site_process import await_server

CLASSES = ("blue bar", "green disc", "red square")
POCKET = "pocket"


@pytest.fixture
def images_config(config_for_images, tmp_path):
    return config_for_images(tmp_path)


@pytest.fixture
def weights():
    from cachefl_jax.simulation.encoded import Checkpoint

    return Checkpoint(POCKET).weights


def test_a_site_may_lack_classes(images_config, tmp_path, make_pictures, weights):
    """Its folders are numbered as the server's classes, in whatever spelling, and its features are those of a run."""
    make_pictures(tmp_path / "site", {"red_square": 4, "green disc": 3})
    split = read_site(images_config, str(tmp_path / "site"), CLASSES, weights).split
    assert split.labels.tolist() == [1] * 3 + [2] * 4
    np.testing.assert_allclose(np.linalg.norm(split.features, axis=1), 1, rtol=1e-5)


def test_a_sites_folders_may_be_called_as_the_servers_data_set_calls_them(
    images_config, tmp_path, make_pictures, weights
):
    make_pictures(tmp_path / "site", {"red square": 2, "green disc": 3})
    (tmp_path / "site" / "green disc").rename(tmp_path / "site" / "disc")
    folders = ("blue bar", "green disc", "red square")
    split = read_site(images_config, str(tmp_path / "site"), ("bar", "disc", "square"), weights, folders).split
    assert split.labels.tolist() == [1] * 3 + [2] * 2


def test_files_that_a_site_leaves_out_are_told(images_config, tmp_path, make_pictures, weights):
    make_pictures(tmp_path / "site", {"red square": 4})
    (tmp_path / "site" / "red square" / "note.txt").write_text("keep")
    (tmp_path / "site" / "red square" / "cut.png").write_bytes(b"no image")
    images_config.data.broken = "skip"
    found = read_site(images_config, str(tmp_path / "site"), CLASSES, weights)
    assert len(found.split.labels) == 4
    assert "cut.png (no image)" in " ".join(found.notes)
    assert ".txt" in " ".join(found.notes)


def test_folders_of_other_classes_are_refused(images_config, tmp_path, make_pictures, weights):
    make_pictures(tmp_path / "site", {"red square": 2, "green disc": 2})
    with pytest.raises(UsageError, match=r"--data: got classes unknown \(2\): green disc, red square"):
        read_site(images_config, str(tmp_path / "site"), ("cat", "dog"), weights)


def test_another_encoder_is_refused(images_config, tmp_path, make_pictures):
    make_pictures(tmp_path / "site", {"red square": 2, "green disc": 2})
    with pytest.raises(UsageError, match=r"clip.checkpoint: got pocket .*; allowed: the server's encoder"):
        read_site(images_config, str(tmp_path / "site"), CLASSES, "0" * 64)
    with pytest.raises(UsageError, match=r"clip.checkpoint: got pocket .*; allowed: an .npz"):
        read_site(images_config, str(tmp_path / "site"), CLASSES, "")


def test_labels_past_the_last_class_are_refused(images_config, tmp_path):
    np.savez(tmp_path / "rows.npz", train_features=np.eye(4, dtype=np.float32), train_labels=np.arange(4))
    with pytest.raises(UsageError, match=r"train_labels: got 0 to 3; allowed: 0 to 2, the server's classes"):
        read_site(images_config, str(tmp_path / "rows.npz"), CLASSES, "")


def test_a_server_that_is_not_there_is_waited_for(capsys):
    """A line says so; it may come within the time that is given."""
    port = free_port()
    with pytest.raises(UsageError, match=rf"--server: got 127.0.0.1:{port} \(nobody listens there\)"):
        await_server(f"127.0.0.1:{port}", 0.1)
    assert capsys.readouterr().err == f"nobody listens at 127.0.0.1:{port} yet: trying for 0.1 seconds\n"
    with socket.socket() as late:
        late.bind(("127.0.0.1", port))
        timer = threading.Timer(0.5, late.listen)
        timer.start()
        await_server(f"127.0.0.1:{port}", 60)
        timer.join()


@pytest.mark.parametrize("address", ["somewhere", "host:", "host:0", ":80", "host:port"])
def test_an_address_needs_a_port(address):
    with pytest.raises(UsageError, match="--server: got .*; allowed: HOST:PORT"):
        place_of("--server", address)


def test_nothing_is_sent_in_the_clear_unless_asked_for(tmp_path):
    """Without certificates a connection is refused, and so is --insecure beside them; certificates go to Flower."""
    files = [str(tmp_path / name) for name in ("server.pem", "server.key", "ca.pem")]
    with pytest.raises(UsageError, match="--root_certificates: got nothing; allowed: .*--insecure"):
        tls_of_site(False, None)
    (tmp_path / "server.pem").touch()
    with pytest.raises(UsageError, match="--ssl_keyfile: got nothing"):
        tls_of_server(False, files[0], None, None)
    with pytest.raises(UsageError, match="--root_certificates: got .*; allowed: nothing with --insecure"):
        tls_of_site(True, files[2])
    with pytest.raises(UsageError, match="--root_certificates: got .*; allowed: an existing PEM file"):
        tls_of_site(False, files[2])
    for file in files:
        open(file, "w").close()
    assert tls_of_server(False, *files).words == (
        "--ssl-certfile", files[0], "--ssl-keyfile", files[1], "--ssl-ca-certfile", files[2],
    )  # fmt: skip
    assert tls_of_site(False, files[2]).words == ("--root-certificates", files[2])
    assert tls_of_server(True, None, None, None).words == ("--insecure",)


def test_a_folder_that_holds_something_is_left_alone(config_of, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with pytest.raises(UsageError, match="--workdir: got .*; allowed: a new or empty folder: a pilot begins anew"):
        lead(config_of(), tmp_path / "old", {}, f"127.0.0.1:{free_port()}", tls_of_site(True, None))
    assert [entry.name for entry in (tmp_path / "old").iterdir()] == ["file"]


@pytest.mark.parametrize("words", [("method=prompt_fl",), ("compare=('cachefl','cachefl@alone')",)], ids=str)
def test_both_commands_refuse_before_anything_is_started(quick_start, make_bank, tmp_path, words):
    """What a pilot cannot run is told in one line, and neither writes a file."""
    shared = ["--config=experiments/configs/feature_bank.py", f"--config.data.path={make_bank()}", "--insecure"]
    shared += [f"--config.{word}" for word in words]
    workdir, home, field = tmp_path / "pilot", tmp_path / "home", words[0].split("=")[0]
    server = quick_start(*shared, f"--workdir={workdir}", "--sites=one,two", command="server", CACHEFL_HOME=str(home))
    site = [f"--data={tmp_path / 'bank.npz'}", f"--server=127.0.0.1:{free_port()}", "--name=one"]
    assert_refused(server, f"{field}: got ")
    assert_refused(quick_start(*shared, *site, command="site", CACHEFL_HOME=str(home)), f"{field}: got ")
    assert not workdir.exists()
    assert not home.exists()


def test_a_cohort_of_more_sites_than_there_are_is_refused(config_of, tmp_path):
    config = config_of(**{"cohort": 3})
    pilot = {"sites": ["one", "two"], "wait": 1.0, "round_seconds": 1.0, "late_seconds": 0.0}
    with pytest.raises(UsageError, match="cohort: got 3; allowed: 0 to partition.clients, 2"):
        lead(config, tmp_path / "new", pilot, f"127.0.0.1:{free_port()}", tls_of_site(True, None))
    assert not (tmp_path / "new").exists()
