"""Bad input on the command line: one line on stderr, exit status 2, nothing written."""

import numpy as np
import pytest
from command_line import assert_refused

DIGITS, BANK = "experiments/configs/digits.py", "experiments/configs/feature_bank.py"


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--config.roundz=3", ("config.roundz: got no such field", "did you mean rounds?")),
        ("--config.cache.gamma=3", ("config.cache.gamma: got no such field",)),
        ("--config.cache.alpha.x=3", ("--config",)),
        ("--config.seed=4294967296", ("seed: got 4294967296", "0 to 4294967295")),
        ("--config.rounds=ten", ("config.rounds: got ten",)),
        ("--config.rounds=1.5", ("config.rounds: got 1.5",)),
        ("--config.rounds=-1", ("rounds: got -1", "0 or more")),
        ("--config.partition.concentration=0", ("partition.concentration: got 0.0", "above 0")),
        ("--config.partition.concentration=-0.1", ("partition.concentration: got -0.1",)),
        ("--config.partition.concentration=nan", ("partition.concentration: got nan",)),
        ("--config.partition.name=dirichle", ("partition.name: got dirichle", "iid | dirichlet | pathological")),
        ("--config.partition.clients=0", ("partition.clients: got 0",)),
        ("--config.cohort=21", ("cohort: got 21", "0 to partition.clients, 20")),
        ("--config.cache.keys_per_class=0", ("cache.keys_per_class: got 0",)),
        ("--config.cache.keys_per_class=17", ("cache.keys_per_class: got 17", "images_per_class, 16")),
        ("--config.cache.alpha=inf", ("cache.alpha: got inf",)),
        ("--config.cache.beta=nan", ("cache.beta: got nan",)),
        ("--config.local.optimizer=rmsprop", ("local.optimizer: got rmsprop", "adamw | sgd")),
        ("--config.local.learning_rate=-1", ("local.learning_rate: got -1.0",)),
        ("--config.methods=('cachefl','magic')", ("methods: got magic",)),
        ("--config.data.name=feature_bank", ("data.path: got", "--config.data.path=X.npz")),
        ("--config.synthesis.source=diffusers", ("synthesis.pipeline: got",)),
        ("--config.synthesis.source=bank", ("synthesis.source: got bank", "pocket | diffusers")),
        ("--config.engine.devices=-1", ("engine.devices: got -1",)),
        ("--config.engine.strategy=fast", ("engine.strategy: got fast", "auto | scan | chunk | vmap | dual")),
        ("--config.engine.strategy=dual", ("engine.strategy: got dual", "local.optimizer=sgd")),
        ("--config.local.nesterov=True", ("local.nesterov: got True", "local.momentum=0.9")),
        ("--config.local.clip_norm=-1.0", ("local.clip_norm: got -1.0",)),
        ("--processes=2", ("--processes: got 2", "--coordinator=HOST:PORT")),
        ("--process=1", ("--processes: got 1", "--coordinator=HOST:PORT")),
        ("--unknown=1", ("command line: got Unknown command line flag 'unknown'",)),
        ("extra", ("command line: got extra",)),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(start, tmp_path, flag, parts):
    workdir = tmp_path / "run"
    assert_refused(start(f"--config={DIGITS}", f"--workdir={workdir}", flag), *parts)
    assert not workdir.exists()


def test_a_config_file_that_is_missing_or_broken_is_told_in_one_line(start, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config(:\n")
    assert_refused(
        start(f"--config={broken}", f"--workdir={tmp_path}/run"), "broken.py", "correct the path or the file"
    )
    assert_refused(start(f"--config={tmp_path}/none.py", f"--workdir={tmp_path}/run"), "none.py")
    assert_refused(start(f"--workdir={tmp_path}/run"), "--config: got nothing")
    assert_refused(start(f"--config={DIGITS}"), "--workdir: got nothing")
    assert_refused(start(f"--config={DIGITS}:nope", f"--workdir={tmp_path}/run"), "no variant 'nope'")


def test_a_config_file_with_a_wrong_type_or_an_extra_field_is_told_in_one_line(start, tmp_path):
    head = "from cachefl_jax.config import default\ndef get_config():\n    config = default()\n"
    file = tmp_path / "mine.py"
    for line, parts in (
        ("config.extra = 3", ("extra: got 3", "correct the name")),
        ("del config.rounds", ("rounds: got nothing",)),
        ("del config.cache; config.cache = 3", ("cache: got 3", "a group of fields")),
        ("del config.rounds; config.rounds = 'ten'", ("rounds: got ten", "allowed: a whole number")),
    ):
        file.write_text(f"{head}    {line}\n    return config\n")
        assert_refused(start(f"--config={file}", f"--workdir={tmp_path}/run"), *parts)


@pytest.mark.parametrize(
    ("changes", "flags", "parts"),
    [
        ({}, ["--config.partition.clients=61"], ("partition.clients: got 61", "1 to 60")),
        ({}, ["--config.cache.keys_per_class=4"], ("cache.keys_per_class: got 4", "1 to 3")),
        ({"test_features": None}, [], ("test_features: got no such array",)),
        ({"class_names": np.array(["a", {}, "b", "c"], dtype=object)}, [], ("holds pickled objects",)),
    ],
)
def test_a_bank_that_does_not_fit_is_told_in_one_line(start, tmp_path, make_bank, changes, flags, parts):
    bank, workdir = make_bank(**changes), tmp_path / "run"
    arguments = (f"--config={BANK}", f"--config.data.path={bank}", f"--workdir={workdir}", *flags)
    assert_refused(start(*arguments), *parts)
    assert not workdir.exists()


def test_a_missing_bank_is_told_in_one_line(start, tmp_path):
    flags = (f"--config={BANK}", f"--config.data.path={tmp_path}/none.npz", f"--workdir={tmp_path}/run")
    assert_refused(start(*flags), "data.path: got", "an existing .npz file")


def test_folders_that_hold_something_else_are_left_alone(start, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    assert_refused(start(f"--config={DIGITS}", f"--workdir={tmp_path}"), "files but no config.json")
    assert_refused(start(f"--config={DIGITS}", f"--workdir={tmp_path}/letter.txt"), "this is a file")
    assert_refused(start(f"--config={DIGITS}", f"--workdir={tmp_path}/letter.txt/below"), "letter.txt is a file")
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_other_commands_refuse_a_folder_without_a_run(start, tmp_path, command):
    assert_refused(
        start(f"--workdir={tmp_path}", command=command), "--workdir" if command == "evaluate" else "config.json"
    )
    assert_refused(start(command=command), "--workdir")


def test_a_sweep_without_points_is_refused(start, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from cachefl_jax.config import default\ndef get_config():\n    return default()\n")
    assert_refused(start(f"--config={file}", f"--workdir={tmp_path}/run", command="sweep"), "sweep(add)")


def test_a_study_of_no_setting_or_beside_something_else_is_refused(start, tmp_path):
    file, workdir = tmp_path / "mine.py", tmp_path / "other"
    text = "from cachefl_jax.config import default\ndef get_config():\n    return default()\n"
    file.write_text(f"{text}def study(add):\n    add(rounds=1 / 0)\n")
    words = f"--config={file}", f"--workdir={workdir}"
    assert_refused(
        start(*words, command="study"), "study(add): ZeroDivisionError", "a Python file whose study(add) runs"
    )
    file.write_text(f"{text}def study(add):\n    pass\n")
    assert_refused(start(*words, command="study"), "study(add) added nothing")
    file.write_text(text)
    workdir.mkdir()
    (workdir / "letter.txt").write_text("dear")
    assert_refused(start(*words, command="study"), "files but no study.json")
    (workdir / "study.json").write_text("{}")
    assert_refused(start(*words, command="study"), "with another study")
    assert_refused(start(f"--workdir={workdir}", command="report"), "other (a study's)", "open its study.html")


def test_a_bank_has_nothing_to_synthesize(start):
    flags = (f"--config={BANK}", "--config.data.path=x.npz")
    assert_refused(start(*flags, command="synthesize"), "synthesis.source: got bank")
