"""The progress bar in a terminal of 80 columns, and the lines elsewhere."""

import io
from typing import Any

import pytest
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console
from torch.utils.data import DataLoader, TensorDataset

from csa_inpaint.callbacks import LossProgressBar, ProgressLines, progress_display

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


# --- without a terminal --------------------------------------------------------------------------


class Scored(Module):
    """Three batches of a second on a clock of the test, and a score."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        super().training_step(batch[0], batch_idx)
        self.clock[0] += 1

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val/psnr", 21.5)
        self.clock[0] += 1


def lines_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **settings: Any
) -> list[list[str]]:
    """The lines of two epochs of three batches of two images, split into their parts."""
    clock = [100.0]
    monkeypatch.setattr("csa_inpaint.callbacks.progress.monotonic", lambda: clock[0])
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[ProgressLines(**settings)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
    )
    data = TensorDataset(torch.zeros(6, 1))
    capsys.readouterr()
    loader = DataLoader(data, batch_size=2)
    trainer.fit(Scored(clock), loader, DataLoader(data, batch_size=6))
    said = capsys.readouterr().out
    assert "\r" not in said
    assert "\x1b" not in said
    return [line.split(" | ") for line in said.splitlines() if " | " in line]


def test_progress_lines_tell_how_far_and_how_fast(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, epoch, last = lines_of(monkeypatch, capsys, every_seconds=None)
    assert first[1:3] == ["epoch 1/2", "step 1/6"]
    for shown in ("D_feature 0.0413", "l1_rough 0.1071", "consistency 0.4968"):
        assert shown in first[3]
    assert first[4:] == ["2 images/s", "0:00:05 left"]
    assert epoch[1:4] == ["epoch 1/2", "step 3/6", "epoch ends"]
    assert epoch[4].endswith("psnr 21.5")
    assert epoch[5:] == ["1.33 images/s", "0:00:04 left"]  # 4 images in 3 s, with the validation
    assert last[1:4] == ["epoch 2/2", "step 6/6", "epoch ends"]
    assert last[-1] == "0:00:00 left"


def test_progress_lines_come_by_steps_or_by_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def steps(**settings: Any) -> list[str]:
        return [line[2] for line in lines_of(monkeypatch, capsys, **settings) if len(line) == 6]

    assert steps(every_seconds=None) == ["step 1/6"]
    assert steps(every_n_steps=2, every_seconds=None) == [f"step {n}/6" for n in (1, 2, 4, 6)]
    assert steps(every_seconds=2.0) == [f"step {n}/6" for n in (1, 3, 5)]
    with pytest.raises(ValueError, match="every_n_steps=0, expected more than 0, or null"):
        ProgressLines(every_n_steps=0)


def test_progress_display_looks_at_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich, "get_console", lambda: Console(force_terminal=False))
    assert isinstance(progress_display(), ProgressLines)
    monkeypatch.setattr(rich, "get_console", lambda: Console(force_terminal=True))
    assert isinstance(progress_display(bar_width=5), LossProgressBar)
