"""Models to share: what the files hold, and that they load as what was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from csa_inpaint import CSAInpainter, CSALayer, Inpainter, load_model
from csa_inpaint.training.sharing import write_safetensors, write_slim
from csa_inpaint.weights.targets import UntrustedTargetError

Make = Callable[..., Any]
Write = Callable[..., list[Path]]

FORMS = [
    (write_slim, "model.ckpt"),
    (write_safetensors, "model.safetensors"),
    (write_safetensors, "folder"),
]
forms = pytest.mark.parametrize(("write", "name"), FORMS, ids=["slim", "file", "folder"])


@forms
def test_shared_model_is_the_averaged_generator(
    write: Write, name: str, trained_module: CSAInpainter, make_batch: Make, tmp_path: Path
) -> None:
    write(trained_module, tmp_path / name)
    loaded = load_model(tmp_path / name)
    image, mask, _ = make_batch(0)
    expected = trained_module(image, mask).composite
    assert torch.equal(loaded(image, mask).composite, expected)
    assert not torch.equal(trained_module.generator(image, mask).composite, expected)
    assert loaded.trained_size == trained_module.trained_size
    assert loaded.hparams["generator"] == trained_module.hparams["generator"]
    assert not loaded.training
    own = sum(value.numel() for value in trained_module.generator.parameters())
    assert sum(value.numel() for value in loaded.parameters()) == own  # no second generator


@forms
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_shared_model_of_half_precision_loads_as_float32(
    write: Write,
    name: str,
    precision: str,
    trained_module: CSAInpainter,
    make_batch: Make,
    tmp_path: Path,
) -> None:
    whole, half = tmp_path / f"whole_{name}", tmp_path / name
    sizes = [
        write(trained_module, path, kind)[0].stat().st_size
        for path, kind in ((whole, "float32"), (half, precision))
    ]
    assert sizes[1] < 0.65 * sizes[0]
    loaded = load_model(half)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    image, mask, _ = make_batch(0)
    error = loaded(image, mask).composite - trained_module(image, mask).composite
    assert 0 < error.abs().max() < 0.05


def test_file_of_safetensors_is_whole_and_needs_no_pickle(
    trained_module: CSAInpainter, tmp_path: Path
) -> None:
    path, card = write_safetensors(trained_module, tmp_path / "model.safetensors")
    moved = tmp_path / "elsewhere" / "other.safetensors"
    moved.parent.mkdir()
    path.rename(moved)
    assert isinstance(load_model(moved), Inpainter)
    with safe_open(moved, "pt") as file:
        settings = json.loads(file.metadata()["csa_inpaint"])["settings"]
    assert settings["generator"]["width"] == 4
    assert all(key.startswith("generator.") for key in load_file(moved))
    assert card == tmp_path / "model.md"


def test_folder_has_the_files_of_a_model_hub(trained_module: CSAInpainter, tmp_path: Path) -> None:
    files = write_safetensors(trained_module, tmp_path / "folder")
    assert [file.name for file in files] == ["model.safetensors", "config.json", "README.md"]
    content = json.loads((tmp_path / "folder/config.json").read_text())
    assert content["trained_size"] == 64
    content["trained_size"] = 96
    (tmp_path / "folder/config.json").write_text(json.dumps(content))
    assert load_model(tmp_path / "folder").trained_size == 96  # the settings are in one place
    assert load_model(tmp_path / "folder/model.safetensors").trained_size == 96


@forms
def test_shared_files_can_be_read_as_others_can(
    write: Write, name: str, trained_module: CSAInpainter, tmp_path: Path
) -> None:
    (tmp_path / "plain").touch()
    expected = (tmp_path / "plain").stat().st_mode
    assert {file.stat().st_mode for file in write(trained_module, tmp_path / name)} == {expected}


def test_shared_settings_name_no_folder_of_the_training(make_module: Make, tmp_path: Path) -> None:
    module = make_module(vgg={"weights": "/home/somebody/vgg16.pth"})
    write_safetensors(module, tmp_path / "folder")
    text = (tmp_path / "folder/config.json").read_text()
    assert "somebody" not in text
    assert json.loads(text)["settings"]["vgg"]["weights"] == "vgg16.pth"


def test_shared_model_without_an_average_is_its_generator(
    make_module: Make, make_batch: Make, tmp_path: Path
) -> None:
    module = make_module(ema_decay=None).eval()
    write_slim(module, tmp_path / "slim.ckpt")
    image, mask, _ = make_batch(0)
    loaded = load_model(tmp_path / "slim.ckpt")
    assert torch.equal(loaded(image, mask).composite, module(image, mask).composite)


def test_card_that_is_there_is_kept(
    trained_module: CSAInpainter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.md").write_text("written by hand")
    assert len(write_safetensors(trained_module, tmp_path / "model.safetensors")) == 1
    assert (tmp_path / "model.md").read_text() == "written by hand"
    assert "model.md is there and kept" in capsys.readouterr().out


def test_sharing_refuses_what_it_cannot_hold(make_module: Make, tmp_path: Path) -> None:
    module = make_module(ema_decay=None)
    with pytest.raises(ValueError, match="precision=int8: expected float32, float16, bfloat16"):
        write_slim(module, tmp_path / "a.ckpt", "int8")  # type: ignore[arg-type]
    weight = module.generator.rough.down[0][0].weight
    weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"rough\.down\.0\.0\.weight has values up to 1e\+06.*bfl"):
        write_slim(module, tmp_path / "a.ckpt", "float16")
    weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"rough\.down\.0\.0\.weight is not finite"):
        write_slim(module, tmp_path / "a.ckpt")
    with_object = Inpainter({"_target_": "csa_inpaint.Generator", "attention": CSALayer()}, {})
    with pytest.raises(ValueError, match=r"not plain values.*CSALayer"):
        write_slim(with_object, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_sharing_refuses_the_extension_of_another_format(
    trained_module: CSAInpainter, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"slim checkpoint is one file.*format=safetensors"):
        write_slim(trained_module, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"slim checkpoint is one file"):
        write_slim(trained_module, tmp_path)
    with pytest.raises(ValueError, match=r"model\.ckpt: safetensors are written to NAME"):
        write_safetensors(trained_module, tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", ["model.safetensors", "folder"])
def test_shared_file_cannot_name_foreign_classes(
    name: str, trained_module: CSAInpainter, tmp_path: Path
) -> None:
    write_safetensors(trained_module, tmp_path / name)
    if name == "folder":
        settings_path = tmp_path / "folder/config.json"
        text = settings_path.read_text()
        settings_path.write_text(text.replace("csa_inpaint.Generator", "os.system"))
    else:
        with safe_open(tmp_path / name, "pt") as file:
            metadata = file.metadata()
        metadata["csa_inpaint"] = metadata["csa_inpaint"].replace("csa_inpaint.Generator", "os.sys")
        save_file(load_file(tmp_path / name), tmp_path / name, metadata)
    with pytest.raises(UntrustedTargetError, match=r"asks to call 'os\.sys"):
        load_model(tmp_path / name)


def test_shared_model_of_another_version_is_explained(
    trained_module: CSAInpainter, tmp_path: Path
) -> None:
    write_slim(trained_module, tmp_path / "slim.ckpt")
    content = torch.load(tmp_path / "slim.ckpt", weights_only=True)
    state = content["state_dict"]
    state["generator.new.weight"] = state.pop("generator.rough.down.0.0.weight")
    torch.save(content, tmp_path / "slim.ckpt")
    with pytest.raises(
        ValueError, match=r"slim\.ckpt: its weights do not fit.*another version.*new"
    ):
        load_model(tmp_path / "slim.ckpt")
    content["hyper_parameters"]["generator"]["patience"] = 3
    torch.save(content, tmp_path / "slim.ckpt")
    with pytest.raises(ValueError, match=r"patience"):
        load_model(tmp_path / "slim.ckpt")
    content["hyper_parameters"]["patience"] = 3
    torch.save(content, tmp_path / "slim.ckpt")
    with pytest.raises(ValueError, match=r"settings do not fit this version of the library"):
        load_model(tmp_path / "slim.ckpt")
