"""Saving within an epoch: by the clock, and for a signal."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from csa_inpaint.callbacks import Preempted, SaveWithinEpoch, within_epoch
from csa_inpaint.training.logs import AppendingCSVLogger

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Restores the handlers, which a training that is about to end keeps."""
    previous = {number: signal.getsignal(number) for number in within_epoch.SIGNALS}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


class Minutes(pl.Callback):
    """A clock on which every batch takes a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(within_epoch, "monotonic", lambda: 60 * self.now)

    def on_train_batch_start(self, *args: Any) -> None:
        self.now += 1


class Send(pl.Callback):
    """Sends signals to this process at the start of a batch."""

    def __init__(self, batch: int, *numbers: int) -> None:
        self.batch, self.numbers = batch, numbers

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            for number in self.numbers:
                os.kill(os.getpid(), number)


def batches_done(path: Path) -> int:
    state = torch.load(path, weights_only=True)
    assert state["window"]["batches"] == 0
    return int(state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])


@pytest.mark.parametrize(
    ("minutes", "saved"), [(2.5, [4, 8, 12]), (0.1, [2, 4, 6, 8, 10, 12]), (None, [])]
)
def test_training_is_saved_by_the_clock_after_a_window(
    minutes: float | None,
    saved: list[int],
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    found: list[int] = []
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again", minutes)
    write = pl.Trainer.save_checkpoint

    def note(trainer: pl.Trainer, path: Path, **options: Any) -> None:
        write(trainer, path, **options)
        found.append(batches_done(path))

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", note)
    trainer = make_trainer([Minutes(monkeypatch), save])
    trainer.fit(make_module(accumulate_batches=2), make_batches(13))
    assert found == saved


def test_training_resumes_exactly_from_what_the_clock_saved(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    save_after: Make,
    assert_same_state: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    last = tmp_path / "last.ckpt"
    save = SaveWithinEpoch(last, "again", 3)
    make_trainer([Minutes(monkeypatch), save, save_after("whole")]).fit(
        make_module(), make_batches(5)
    )
    assert batches_done(last) == 3
    make_trainer([save_after("resumed")]).fit(
        make_module(seed=5), make_batches(5), ckpt_path=last, weights_only=True
    )
    assert_same_state(tmp_path / "whole/end.ckpt", tmp_path / "resumed/end.ckpt")


@pytest.mark.parametrize(
    ("numbers", "status", "last"),
    [
        ((signal.SIGTERM,), 75, signal.SIGTERM),
        ((signal.SIGUSR1,), 75, signal.SIGUSR1),
        ((signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM), 75, signal.SIGUSR1),  # a time limit
    ],
)
def test_signal_saves_and_ends_with_its_own_status(
    numbers: tuple[int, ...],
    status: int,
    last: int,
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    tmp_path: Path,
) -> None:
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again")
    with pytest.raises(Preempted) as stopped:
        make_trainer([Send(1, *numbers), save]).fit(make_module(), make_batches(5))
    assert stopped.value.code == status
    assert stopped.value.signal == last
    assert batches_done(tmp_path / "last.ckpt") == 2


def test_batch_is_logged_before_it_is_saved(
    make_module: Make,
    make_batches: Make,
    make_trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    logger = AppendingCSVLogger(tmp_path, name="", version="", flush_logs_every_n_steps=1)
    steps: list[list[str]] = []

    def note(trainer: pl.Trainer, path: Path, **options: Any) -> None:
        steps.append([row["step"] for row in csv.DictReader((tmp_path / "metrics.csv").open())])

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", note)
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again", 0.1)
    trainer = make_trainer([Minutes(monkeypatch), save], logger=logger, log_every_n_steps=1)
    trainer.fit(make_module(), make_batches(3))
    assert steps == [["0"], ["0", "1"]]


def test_signal_before_the_first_batch_is_kept(
    make_module: Make, make_batches: Make, make_trainer: Make, tmp_path: Path
) -> None:
    save = SaveWithinEpoch(tmp_path / "last.ckpt", "again")
    save.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Preempted):
        make_trainer([save]).fit(make_module(), make_batches(5))
    assert batches_done(tmp_path / "last.ckpt") == 1


def test_status_of_other_ranks_is_an_error_under_torchrun_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert [Preempted(signal.SIGTERM, rank).code for rank in (0, 1)] == [75, 0]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    assert [Preempted(signal.SIGTERM, rank).code for rank in (0, 1)] == [75, 75]


def test_time_between_checkpoints_is_positive() -> None:
    with pytest.raises(ValueError, match="every_minutes=0, expected more than 0, or null"):
        SaveWithinEpoch("last.ckpt", "again", 0)
