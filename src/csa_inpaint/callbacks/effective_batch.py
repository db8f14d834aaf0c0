"""What a run's batch and learning rates amount to over all its processes."""

from itertools import groupby
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from csa_inpaint.training.module import Inpainter


class EffectiveBatch(pl.Callback):
    """Rank 0 prints how many samples make an update, and the learning rates, when training starts.

    The learning rates are those of the settings unless ``model.schedule.by_processes`` multiplies
    them by the number of processes.
    """

    def __init__(self) -> None:
        self._said = False

    # `on_train_start` comes before the module renews the learning rates of a resumed run, and a run
    # that is resumed within an epoch does not start that epoch again.
    def on_train_batch_start(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, *args: Any
    ) -> None:
        if self._said:
            return
        self._said = True
        batch = getattr(trainer.train_dataloader, "batch_size", None)
        if batch is not None:  # a user's own loader may not know
            rank_zero_info(f"{_batch(trainer, batch, pl_module.window.size)}; {_rates(trainer)}")


def _batch(trainer: pl.Trainer, batch: int, windows: int) -> str:
    parts = [
        _counted(trainer.num_nodes, "node"),
        _counted(trainer.num_devices, "device"),
        f"batch {batch}",
        *([f"{windows} batches accumulated"] if windows > 1 else []),
    ]
    return f"Effective batch: {trainer.world_size * batch * windows} = {' × '.join(parts)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rates(trainer: pl.Trainer) -> str:
    groups: list[Any] = [group for each in trainer.optimizers for group in each.param_groups]
    parts = [
        f"{rate:g} ({', '.join(group.get('name', 'generator') for group in same)})"
        for rate, same in groupby(groups, key=lambda group: group["lr"])
    ]
    return f"learning rate: {', '.join(parts)}"
