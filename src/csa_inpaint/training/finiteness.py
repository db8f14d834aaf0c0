"""Find and name values that are not finite, before the weights change."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from csa_inpaint.losses.terms import Term
from csa_inpaint.types import Batch


class NonFiniteLossError(RuntimeError):
    """A loss term, a gradient or a weight became infinite or not a number.

    Args:
        message: the value, the place and the remedy.
        batch: the batch of the failed step; None for an error outside a step.
    """

    def __init__(self, message: str, batch: Batch | None = None) -> None:
        super().__init__(message)
        self.batch = batch


def require_finite_terms(module: pl.LightningModule, batch: Batch, terms: Sequence[Term]) -> None:
    """Raise a ``NonFiniteLossError`` that names the terms that are not finite."""
    values = torch.stack([term.loss.detach().float() for term in terms])
    if torch.isfinite(values).all():
        return
    bad = [f"{t.name} = {v.item()}" for t, v in zip(terms, values, strict=True) if not v.isfinite()]
    raise non_finite(module, batch, ", ".join(bad))


def require_finite_gradients(module: pl.LightningModule, batch: Batch, optimizer: Any) -> None:
    """Raise a ``NonFiniteLossError`` that names parameters whose gradient is not finite."""
    if getattr(module.trainer.precision_plugin, "scaler", None) is not None:
        return  # the scaler of 16-mixed expects overflows, and skips their steps
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if nn.utils.get_total_norm(gradients).isfinite():
        return
    bad = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    some = ", ".join(bad[:3]) or "all parameters together"
    what = f"the gradient of {some} ({len(bad)} in all) is not finite"
    raise non_finite(module, batch, what)


def require_finite_weights(generator: nn.Module) -> None:
    """Raise a ``NonFiniteLossError`` before a checkpoint with such a weight is written."""
    for name, parameter in generator.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NonFiniteLossError(
                f"generator.{name} is not finite; the checkpoint is not written, the last good one "
                "stays"
            )


def non_finite(module: pl.LightningModule, batch: Batch, what: str) -> NonFiniteLossError:
    """The error that ends a training, with the batch and the remedies."""
    precision = module.trainer.precision
    return NonFiniteLossError(
        f"{what}, in epoch {module.current_epoch}, on the batch of {', '.join(batch.path)}. "
        "Training stops here; checkpoints written before are good. Try a smaller "
        "model.learning_rate, model.clip_norm=1"
        f"{'' if precision == '32-true' else ' or trainer.precision=32-true'}.",
        batch,
    )
