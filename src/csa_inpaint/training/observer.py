"""Callbacks that look at the loss terms of every step."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from csa_inpaint.losses.terms import Term
from csa_inpaint.types import Batch


class TermObserver(pl.Callback):
    """Sees the terms of every training step before their backward pass.

    The module calls the methods inside its ``training_step``, on every rank, with autocast on and
    with the side that does not learn frozen. The call for the discriminators comes first, on every
    batch of a run that has discriminators. The call for the generator follows on every batch in
    whose window the generator learns. The terms still have their graph. An observer must not change
    the graph, the gradients or the random state; ``torch.autograd.grad(…, retain_graph=True)``
    changes none of them.
    """

    def on_discriminator_terms(self, pl_module: Any, batch: Batch, terms: Sequence[Term]) -> None:
        """The discriminators' terms, before they are checked to be finite."""

    def on_generator_terms(self, pl_module: Any, batch: Batch, terms: Sequence[Term]) -> None:
        """The generator's terms, before they are checked to be finite."""
