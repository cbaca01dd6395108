"""Code that comes with a checkpoint, a pipeline or a data set is refused without asking, whatever waits on stdin."""

import io
import json
import pathlib
import shutil
import sys

import pytest

from cachefl_jax.clip import load_encoder
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.config import default
from cachefl_jax.data import hub
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, generate
from cachefl_jax.synthesis.pipeline import POCKET as POCKET_PIPELINE


@pytest.fixture
def marker(tmp_path, monkeypatch) -> pathlib.Path:
    """The file that foreign code would write; a yes to every question waits on stdin."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "marker"


@pytest.fixture
def refused(marker, capfd):
    """(act, part of the line) -> nothing; the act is refused in one line, asks nothing and runs nothing."""

    def check(act, part: str) -> None:
        with pytest.raises(UsageError, match=part) as told:
            act()
        assert "\n" not in str(told.value)
        assert not marker.exists()
        assert sys.stdin.tell() == 0  # nothing was read
        assert "y/N" not in "".join(capfd.readouterr())

    return check


def write_code(folder: pathlib.Path, marker: pathlib.Path, name: str = "evil") -> None:
    """A module that writes the marker when it is imported, and defines what might be asked of it."""
    classes = ("Tokenizer", "Model", "Processor", "Config", "Pipe", "Unet", "Data")
    text = f"open({str(marker)!r}, 'w').write('run')\n" + "".join(f"class {each}:\n    pass\n" for each in classes)
    (folder / f"{name}.py").write_text(text)


def change(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


MAPS = {
    "AutoTokenizer": ["evil.Tokenizer", None],
    "AutoModel": "evil.Model",
    "AutoConfig": "evil.Config",
    "AutoImageProcessor": "evil.Processor",
    "AutoProcessor": "evil.Processor",
}


@pytest.mark.parametrize(
    ("file", "fields", "part"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "Evil", "auto_map": MAPS}, "tokenizer_config.json: auto_map"),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "CLIPTokenizer", "auto_map": MAPS},
            "tokenizer_config.json: auto",
        ),
        ("tokenizer_config.json", {"tokenizer_class": "Evil"}, "Evil"),
        ("config.json", {"auto_map": MAPS}, "/config.json: auto_map"),
        ("preprocessor_config.json", {"auto_map": MAPS}, "preprocessor_config.json: auto_map"),
    ],
)
def test_a_checkpoint_with_code_of_its_own(tmp_path, marker, refused, file, fields, part):
    folder = shutil.copytree(POCKET, tmp_path / "clip")
    write_code(folder, marker)
    change(folder / file, **fields)
    refused(lambda: load_encoder(str(folder)), part)


def test_an_unknown_tokenizer_whose_code_only_the_models_config_names(tmp_path, marker, refused):
    """The tokenizer's class is looked for there too."""
    folder = shutil.copytree(POCKET, tmp_path / "clip")
    write_code(folder, marker)
    change(folder / "tokenizer_config.json", tokenizer_class="Evil")
    change(folder / "config.json", auto_map=MAPS)
    from cachefl_jax.clip.tokenizer import load_tokenizer

    refused(lambda: load_tokenizer(folder, 16), "clip.checkpoint: got .*Evil")


def own_pipeline(folder: pathlib.Path) -> None:
    change(folder / "model_index.json", _class_name=["evil", "Pipe"])


def own_component(folder: pathlib.Path) -> None:
    change(folder / "model_index.json", unet=["evil", "Unet"])


def own_tokenizer(folder: pathlib.Path) -> None:
    change(folder / "model_index.json", tokenizer=["transformers", "AutoTokenizer"])
    change(folder / "tokenizer" / "tokenizer_config.json", tokenizer_class="Evil", auto_map=MAPS)


def own_encoder(folder: pathlib.Path) -> None:
    change(folder / "model_index.json", text_encoder=["transformers", "AutoModel"])
    change(folder / "text_encoder" / "config.json", model_type="evil", auto_map=MAPS)


@pytest.mark.parametrize("harm", [own_pipeline, own_component, own_tokenizer, own_encoder])
def test_a_pipeline_with_code_of_its_own(tmp_path, marker, refused, harm):
    folder = pathlib.Path(shutil.copytree(POCKET_PIPELINE, tmp_path / "pipeline"))
    for place in (folder, *[path for path in folder.iterdir() if path.is_dir()]):
        write_code(place, marker)
    harm(folder)
    refused(lambda: generate(str(folder), ["the digit two."], [0], Drawing(1, 1.0)), "synthesis.pipeline|auto_map")


def test_a_data_set_with_code_of_its_own(tmp_path, marker, refused):
    pytest.importorskip("datasets", reason="the hub's data sets need the package datasets")
    folder = tmp_path / "pets"
    folder.mkdir()
    write_code(folder, marker, "pets")
    data = default().data
    data.hub = str(folder)
    refused(lambda: hub.load(data), "data.hub: got .*pets")
