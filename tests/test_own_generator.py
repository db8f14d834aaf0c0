"""The documentation's example of a user's own generator and loss term, run as written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from csa_inpaint import load_model
from csa_inpaint.losses import Step
from csa_inpaint.networks.vgg import VGG16Features
from csa_inpaint.types import Batch, Inpainting
from csa_inpaint.weights.targets import UntrustedTargetError

PAGE = (Path(__file__).parents[1] / "docs/own_generator.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The page's files, in a user's folder."""
    (tmp_path / "mine.py").write_text(blocks("python")[0])
    (tmp_path / "my_conf/model").mkdir(parents=True)
    (tmp_path / "my_conf/model/mine.yaml").write_text(blocks("yaml")[0])
    return tmp_path


def run(folder: Path, command: str, *more: str) -> str:
    _, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, *arguments, *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_own_generator_trains_evaluates_and_loads(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, evaluate = blocks("bash")[0].strip().splitlines()
    small = ("data.size=32", "trainer.limit_val_batches=1", "trainer.accelerator=cpu")
    run(written, train, *small, "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    (checkpoint,) = written.rglob("checkpoints/best.ckpt")
    (metrics,) = written.rglob("metrics.csv")
    assert "health/grad_norm/hole" in metrics.read_text()
    checkpoint.rename(written / "best.ckpt")
    assert "composite" in run(written, evaluate, "trainer.accelerator=cpu")
    monkeypatch.syspath_prepend(written)
    with pytest.raises(UntrustedTargetError, match=r"trust=\[mine\]"):
        load_model(written / "best.ckpt")
    model = load_model(written / "best.ckpt", trust=["mine"])
    assert model.generator.width == 16
    assert model(torch.zeros(1, 3, 13, 7), torch.ones(1, 1, 13, 7)).composite.shape[-1] == 7


def test_own_loss_term_sees_features() -> None:
    space: dict[str, object] = {"torch": torch}
    exec(blocks("python")[1], space)
    term = space["Perceptual"]("perceptual", weight=0.1)  # type: ignore[operator]
    truth = torch.rand(1, 3, 16, 16)
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    out = Inpainting(image, image, image * 1, {})
    step = Step(Batch(truth, truth[:, :1], ["a"]), out, VGG16Features("random", 2, levels=()))
    value = term(step)
    assert (value.name, value.weight) == ("generator/perceptual", 0.1)
    value.loss.backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
