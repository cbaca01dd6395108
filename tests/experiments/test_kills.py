"""The benchmark that kills runs: a small one ends as it should, and what is wrong is noticed."""

import json
import subprocess
import sys

from experiments.benchmarks import kills


def test_a_killed_run_ends_the_same_and_of_two_commands_on_one_folder_one_wins():
    words = ["-m", "experiments.benchmarks.kills", "--times=2", "--starts=1", "--kinds=bank"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "killed 2 times (bank 2): 2 of 2 ended the same",
        "two commands on one folder, 1 times: 1 of 1 as it should be",
    ]


def test_a_difference_and_what_is_left_behind_are_told(tmp_path):
    place = kills.set_up(tmp_path, "bank", tmp_path)
    place.workdir.mkdir()
    line = {"round": 0, "train_loss": 1.0, "seconds": 0.5}
    (place.workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (place.workdir / "summary.json").write_text(json.dumps({"methods": {"cachefl": {"seconds_per_round": 0.5}}}))
    for name in kills.SAME:
        (place.workdir / name).write_bytes(b"same")
    end = kills.end_of(place)
    (place.workdir / "metrics.jsonl").write_text(json.dumps({**line, "seconds": 0.7}) + "\n")
    assert not kills.difference(kills.end_of(place), end)
    assert not kills.remains(place)
    (place.workdir / "metrics.jsonl").write_text(json.dumps({**line, "train_loss": 2.0}) + "\n")
    (place.workdir / "cache.safetensors").write_bytes(b"other")
    (place.workdir / ".config.json.abcd").touch()
    assert kills.difference(kills.end_of(place), end) == "other content in cache.safetensors, metrics.jsonl"
    assert kills.remains(place) == "left behind: .config.json.abcd"
