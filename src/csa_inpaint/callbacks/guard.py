"""Keep the batch on which a training failed."""

import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from csa_inpaint.cli.entry import override
from csa_inpaint.cli.provenance import versions
from csa_inpaint.training.finiteness import NonFiniteLossError


class DumpBadBatch(pl.Callback):
    """Write a file that replays the step when a ``NonFiniteLossError`` stops the training.

    ``bad_batch_step_<batches>_rank_<rank>.pt`` holds the batch, the weights that the failing
    losses saw, the seed of the step and the run's configuration: plain values and tensors that
    ``torch.load(…, weights_only=True)`` reads. The error then names the file and the command that
    replays the step. The file holds neither the moving average nor VGG-16.

    Args:
        directory: folder of the file.
        config: the run's configuration, in plain dicts, lists, strings and numbers.
    """

    def __init__(self, directory: str | Path, config: dict[str, Any]) -> None:
        self.directory = Path(directory)
        self.config = config

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, NonFiniteLossError) or exception.batch is None:
            return
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        path = self.directory / f"bad_batch_step_{step}_rank_{trainer.global_rank}.pt"
        self.directory.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value
            for name, value in pl_module.state_dict().items()
            if not name.startswith("ema.")
        }
        torch.save(
            {
                "reason": str(exception),
                "step": step,
                "epoch": trainer.current_epoch,
                "rank": trainer.global_rank,
                "seed": pl_module.step_seed,
                "precision": str(trainer.precision),
                "image": exception.batch.image,
                "mask": exception.batch.mask,
                "path": list(exception.batch.path),
                "weights": weights,
                "config": self.config,
                "versions": versions(),
            },
            path,
        )
        command = shlex.join(["python", "-m", "csa_inpaint.replay", override("dump", path)])
        exception.add_note(
            f"The batch and the weights are in {path}. Replay the step:\n  {command}"
        )
