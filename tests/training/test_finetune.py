"""A training of trained weights: the model is theirs, whatever the configuration says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from csa_inpaint import CSAInpainter
from csa_inpaint.callbacks import InitFrom
from csa_inpaint.training.finetune import FineTuned
from csa_inpaint.training.sharing import write_safetensors
from csa_inpaint.weights.targets import UntrustedTargetError

Make = Callable[..., Any]
RANDOM_VGG = {"weights": "random", "width": 4}


def test_fine_tuned_model_starts_from_the_shipped_weights(
    starter: CSAInpainter, make_batches: Make, make_trainer: Make
) -> None:
    module = FineTuned("pretrained", vgg=RANDOM_VGG, ema_decay=0.9, optimizer=None)
    assert module.hparams["generator"] == starter.hparams["generator"]
    assert list(module.hparams["losses"]) == ["l1_rough", "l1_refined", "consistency"]
    module.optimizer["lr"] = 0.0
    make_trainer([InitFrom("pretrained")]).fit(module, make_batches(1))
    assert starter.ema is not None
    expected = starter.ema.module.state_dict()
    for name, value in module.generator.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_fine_tuned_model_continues_its_own_checkpoint(
    starter: CSAInpainter, make_module: Make, tmp_path: Path
) -> None:
    deeper = make_module(depth=5)
    write_safetensors(deeper, tmp_path / "deeper.safetensors")
    module = FineTuned("pretrained", checkpoint=tmp_path / "deeper.safetensors")
    assert module.multiple == 2**5


def test_fine_tuned_model_takes_other_losses(starter: CSAInpainter) -> None:
    term = {"_target_": "csa_inpaint.losses.Reconstruction", "image": "refined", "weight": 2.0}
    module = FineTuned("pretrained", losses={"only": term})
    assert [name.name for name in module.terms] == ["only"]


def test_fine_tuned_model_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"init_from=PATH, or init_from=pretrained"):
        FineTuned()
    with pytest.raises(FileNotFoundError, match=r"absent\.ckpt"):
        FineTuned(tmp_path / "absent.ckpt")


def test_fine_tuned_model_calls_no_foreign_class(
    trained_module: CSAInpainter, tmp_path: Path
) -> None:
    write_safetensors(trained_module, tmp_path / "folder")
    path = tmp_path / "folder/config.json"
    path.write_text(path.read_text().replace("csa_inpaint.Generator", "subprocess.run"))
    with pytest.raises(UntrustedTargetError, match=r"subprocess\.run"):
        FineTuned(tmp_path / "folder")
