"""One process and two processes that share its batch: the same weights, the same validation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from csa_inpaint import CSAInpainter
from csa_inpaint.adversaries import (
    FeatureAdversary,
    PatchAdversary,
    RelativisticAverageLeastSquares,
)
from csa_inpaint.data import InpaintingDataModule, RectangleMask, ShippedPhotos
from csa_inpaint.data.datasets.layout import Split
from csa_inpaint.data.listing import FileList
from csa_inpaint.training.schedule import LinearDecay

Make = Callable[..., Any]
BATCH = 4  # of all processes together
STEPS = 20
TOLERANCE = 1e-5
# The last bias of a discriminator cancels in a relativistic loss: its gradient is rounding, which
# Adam enlarges.
WITHOUT_GRADIENT = "discriminators.patch.11.bias"


class NinePhotos(ShippedPhotos):
    """Without one photograph of validation, so that two processes have different numbers."""

    def files(self, root: Path | None, split: Split) -> FileList:
        files = super().files(root, split)
        return files if split == "train" else files[:9]


def adversaries(names: str) -> list[pl.Callback]:
    if names == "none":
        return []
    objective = RelativisticAverageLeastSquares()
    return [
        PatchAdversary(objective, weight=0.1, width=4),
        FeatureAdversary(objective, weight=0.1, width=8),
    ]


def untrained() -> CSAInpainter:
    torch.manual_seed(0)
    vgg = {"weights": "random", "width": 4}
    weights = {"consistency": 1.0}  # large, so that its mean over all processes matters
    return CSAInpainter(width=4, depth=4, vgg=vgg, loss_weights=weights)


def train(names: str, processes: int, precision: Any = "64-true") -> tuple[pl.Trainer, Any]:
    module = untrained()
    data = InpaintingDataModule(
        NinePhotos(),
        RectangleMask(),
        size=64,
        repeats=3,
        batch_size=BATCH // processes,
        val_batch_size=2,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy="auto" if processes == 1 else "ddp",
        devices=processes,
        precision=precision,
        max_epochs=1,
        limit_train_batches=STEPS,
        callbacks=adversaries(names),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)
    return trainer, module


def result(names: str, processes: int, precision: Any = "64-true") -> dict[str, Any]:
    trainer, module = train(names, processes, precision)
    scores = {key: float(value) for key, value in trainer.callback_metrics.items() if "val" in key}
    return {"weights": module.state_dict(), "scores": scores}


def result_of_two(names: str, path: Path) -> None:
    found = result(names, 2)
    found["largest_factor"] = LinearDecay(by_processes=True)(0)
    if torch.distributed.get_rank() == 0:
        torch.save(found, path)


@pytest.mark.slow
@pytest.mark.parametrize("names", ["none", "both"])
def test_two_processes_train_what_one_does(
    in_two_processes: Make, tmp_path: Path, names: str
) -> None:
    in_two_processes(result_of_two, names, tmp_path / "two.pt")
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    one = result(names, 1)
    assert two["weights"].keys() == one["weights"].keys()
    for name, value in one["weights"].items():
        if name != WITHOUT_GRADIENT:
            assert (two["weights"][name] - value).abs().max() < TOLERANCE, name
    before = untrained().state_dict()
    moved = [float((one["weights"][name] - value).abs().max()) for name, value in before.items()]
    assert max(moved) > 100 * TOLERANCE
    # All nine photographs count once: a tenth would change the mean.
    assert two["scores"] == pytest.approx(one["scores"], rel=1e-5)
    assert "val/hole_ssim" in one["scores"]
    assert two["largest_factor"] == 2
    assert LinearDecay(by_processes=True)(0) == 1
