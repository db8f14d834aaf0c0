"""The progress bar in a terminal of 80 columns."""

import io

import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.callbacks import RichProgressBar
from torch.utils.data import DataLoader

from csa_inpaint.callbacks import LossProgressBar

LOSSES = {
    "discriminator/feature": 0.0413,
    "discriminator/patch": 0.0526,
    "generator/l1_rough": 0.1071,
    "generator/consistency": 0.4968,
    "generator/feature": 4.297,
}


class Module(pl.LightningModule):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log_dict(LOSSES, prog_bar=True)

    def configure_optimizers(self) -> None:
        return None


def test_progress_bar_shows_every_loss_unbroken_in_80_columns() -> None:
    screen = io.StringIO()
    console = {"file": screen, "width": 80, "force_terminal": True, "color_system": None}
    bar = LossProgressBar(leave=True, console_kwargs=console)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[bar],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(Module(), DataLoader(torch.zeros(4, 1)))
    rich.reconfigure()
    words = screen.getvalue().split()
    for shown in (
        "D_feature: 0.0413", "D_patch: 0.0526", "l1_rough: 0.107", "consistency: 0.497",
        "feature: 4.3",
    ):  # fmt: skip
        name, value = shown.split()
        assert name in words
        assert value in words


def test_progress_bar_leaves_other_bars_as_they_are() -> None:
    before = RichProgressBar().theme
    LossProgressBar()
    assert RichProgressBar().theme == before
    assert before.metrics_format != ".3g"
