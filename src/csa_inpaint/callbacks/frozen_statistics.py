"""Fine-tuning with frozen batch statistics."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch.nn.modules.batchnorm import _BatchNorm

from csa_inpaint.training.module import Inpainter


class FreezeStatistics(pl.Callback):
    """Let batch norms of the generator use their running statistics in training, unchanged.

    Holes spoil the statistics of a batch, so partial convolution fine-tunes with those of the
    encoder frozen (Liu et al., ECCV 2018, Sec. 4.1). A fine-tuning starts from a trained model:
    ``init_from=PATH``.

    Args:
        parts: names of the generator's parts whose batch norms are frozen, such as ``encoder``.
        learn_affine: whether the scales and shifts of these norms still learn.

    Raises:
        ValueError: for a part that the generator lacks, and for parts without a batch norm.
    """

    def __init__(self, parts: Sequence[str] = ("encoder",), learn_affine: bool = True) -> None:
        self.parts = list(parts)
        self.learn_affine = learn_affine

    def setup(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, stage: str
    ) -> None:
        if stage != "fit":
            return
        for norm in self.norms(pl_module):
            norm.requires_grad_(self.learn_affine)

    def on_train_batch_start(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, *args: Any
    ) -> None:
        for norm in self.norms(pl_module):
            norm.eval()

    def on_train_batch_end(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, *args: Any
    ) -> None:
        for norm in self.norms(pl_module):
            norm.train()

    def norms(self, pl_module: Inpainter) -> list[_BatchNorm]:
        """The batch norms that this callback freezes."""
        there = dict(pl_module.generator.named_children())
        unknown = [part for part in self.parts if part not in there]
        if unknown:
            raise ValueError(
                f"parts={self.parts}: the generator has no {unknown[0]}, only {', '.join(there)}"
            )
        found = [
            module
            for part in self.parts
            for module in there[part].modules()
            if isinstance(module, _BatchNorm)
        ]
        if not found:
            raise ValueError(f"parts={self.parts}: no batch norm is there to freeze")
        return found
