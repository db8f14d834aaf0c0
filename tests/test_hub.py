"""Models as model hubs hold them, in folders: nothing here uses the network."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from csa_inpaint import CSAInpainter, load_model
from csa_inpaint.training.sharing import write_slim
from csa_inpaint.weights.targets import UntrustedTargetError

hub = pytest.importorskip("csa_inpaint.hub", exc_type=ModuleNotFoundError)

Make = Callable[..., Any]


@pytest.fixture
def model(trained_module: CSAInpainter, tmp_path: Path) -> Any:
    write_slim(trained_module, tmp_path / "slim.ckpt")
    return hub.HubInpainter.load_from_checkpoint(tmp_path / "slim.ckpt")


def test_hub_model_comes_back_from_its_folder(
    model: Any, trained_module: CSAInpainter, make_batch: Make, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {
        "model.safetensors", "config.json", "README.md",
    }  # fmt: skip
    image, mask, _ = make_batch(0)
    expected = trained_module(image, mask).composite
    loaded = hub.HubInpainter.from_pretrained(tmp_path / "folder")
    assert isinstance(loaded, hub.HubInpainter)
    for one in (loaded, load_model(tmp_path / "folder")):
        assert torch.equal(one(image, mask).composite, expected)
        assert one.trained_size == 64
        assert not one.training


def test_hub_model_is_saved_in_half_precision(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "whole")
    model.share_precision = "float16"
    model.save_pretrained(tmp_path / "half")
    whole, half = (tmp_path / name / "model.safetensors" for name in ("whole", "half"))
    assert half.stat().st_size < 0.65 * whole.stat().st_size
    assert "Numbers: float16" in (tmp_path / "half/README.md").read_text()


def test_hub_card_holds_the_evaluation(model: Any, tmp_path: Path) -> None:
    scores = {"all": {"images": 3, "composite": {"psnr": 21.5}}}
    about = {"data": "photos", "split": "test split", "size": [64, 64], "masks": "center"}
    content = {**about, "gaps": {}, "scores": scores}
    (tmp_path / "scores.json").write_text(json.dumps(content))
    card = {"evaluation": str(tmp_path)}
    model.save_pretrained(tmp_path / "folder", model_card_kwargs=card)
    text = (tmp_path / "folder/README.md").read_text()
    assert "| composite | 21.50 |" in text
    assert text.startswith("---\nlibrary_name: csa_inpaint\n")


def test_hub_folder_runs_no_code_and_takes_no_other_settings(model: Any, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    model.save_pretrained(folder)
    with pytest.raises(TypeError, match="ema_decay"):
        hub.HubInpainter.from_pretrained(folder, ema_decay=0.9)
    path = folder / "config.json"
    path.write_text(path.read_text().replace("csa_inpaint.Generator", "os.system"))
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        hub.HubInpainter.from_pretrained(folder)
