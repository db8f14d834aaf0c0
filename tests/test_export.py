"""The command that exports a model, and the commands that take what it wrote."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from csa_inpaint import CSAInpainter, load_model
from csa_inpaint.cli.conf import config_directory
from csa_inpaint.evaluate import evaluate
from csa_inpaint.evaluation.tables import Scores
from csa_inpaint.export import export
from csa_inpaint.training.sharing import write_safetensors


def configured(*overrides: str, command: str = "export") -> DictConfig:
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose(command, list(overrides))


@pytest.mark.parametrize(
    ("form", "output"),
    [("slim", "out/slim.ckpt"), ("safetensors", "out/m.safetensors"), ("safetensors", "out/m")],
)
def test_export_writes_what_loads(
    form: str,
    output: str,
    starter: CSAInpainter,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / output
    overrides = [f"format={form}", "format.precision=float16", f"output={path}"]
    files = export(configured("checkpoint=pretrained", *overrides))
    assert all(file.is_file() for file in files)
    assert f"{files[0]}: 0.2 MB" in capsys.readouterr().out
    weight = load_model(path).generator.state_dict()["rough.down.0.0.weight"]
    assert starter.ema is not None
    original = starter.ema.module.state_dict()["rough.down.0.0.weight"]
    assert torch.equal(weight, original.half().float())
    # The exported file is exported again.
    again = tmp_path / "again.ckpt"
    export(configured(f"checkpoint={path}", "format=slim", f"output={again}"))
    assert torch.equal(load_model(again).generator.state_dict()["rough.down.0.0.weight"], weight)


def test_export_overwrites_nothing_unasked(starter: CSAInpainter, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    settings = ["checkpoint=pretrained", f"output={path}"]
    with pytest.raises(FileExistsError, match=r"model\.safetensors is there.*overwrite=true"):
        export(configured(*settings))
    assert path.read_text() == "mine"
    export(configured(*settings, "overwrite=true"))
    assert load_model(path).trained_size == 64
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"folder is there"):
        export(configured("checkpoint=pretrained", f"output={tmp_path / 'folder'}"))


def test_evaluate_takes_an_export(starter: CSAInpainter, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_safetensors(starter, folder)

    def scores(checkpoint: object, results: str) -> Scores:
        data = ["+data=photos", "+mask=center", "data.size=64", "limit_images=1", "num_workers=0"]
        overrides = [f"checkpoint={checkpoint}", *data, "trainer.accelerator=cpu"]
        cfg = configured(*overrides, command="evaluate")
        (tmp_path / results).mkdir(exist_ok=True)
        return evaluate(cfg, tmp_path / results)

    assert scores(folder, "of_folder") == scores("pretrained", "of_shipped")
    settings = folder / "config.json"
    content = settings.read_text()
    settings.write_text(content.replace('"trained_size": 64', '"trained_size": 96'))
    assert settings.read_text() != content
    with pytest.raises(ValueError, match="of_folder"):  # its scores are of another model
        scores(folder, "of_folder")


def test_every_format_says_how_it_is_written() -> None:
    for path in (config_directory() / "format").glob("*.yaml"):
        form = configured(f"format={path.stem}", "checkpoint=a", "output=b").format
        assert form._partial_ is True
        assert form._target_.startswith("csa_inpaint.")
