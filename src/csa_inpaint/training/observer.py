"""What looks at the terms of every step."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from csa_inpaint.losses.terms import Term
from csa_inpaint.types import Batch


class TermObserver(pl.Callback):
    """Sees the terms of every training step, between their computation and their backward.

    The module calls both methods inside its ``training_step``, so autocast is on and the side that
    does not learn is frozen, on every batch and every rank: first for the discriminators, where
    there are any, then for the generator. The terms still have their graph. An observer must leave
    it, all gradients and the random state as they are: ``torch.autograd.grad(…,
    retain_graph=True)`` does.
    """

    def on_discriminator_terms(self, pl_module: Any, batch: Batch, terms: Sequence[Term]) -> None:
        """The discriminators' terms, before they are checked to be finite."""

    def on_generator_terms(self, pl_module: Any, batch: Batch, terms: Sequence[Term]) -> None:
        """The generator's terms, before they are checked to be finite."""
