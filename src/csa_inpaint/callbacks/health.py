"""Figures of a training's health: gradients, discriminators, attention, speed and memory."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from csa_inpaint.csa import CSALayer, reduce_mask
from csa_inpaint.losses.terms import Term
from csa_inpaint.training.module import Inpainter
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.types import Batch

_log = logging.getLogger(__name__)


class TrainingHealth(TermObserver):
    """Log how the training is doing, on the first batch and every ``every_n_steps`` batches.

    All keys begin with ``health/``:

    - ``grad_norm/<term>``: norm of the gradient that the weighted term sends into the generator.
    - ``logit_gap/<adversary>``: mean logit of the real samples minus that of the generated ones.
    - ``accuracy/<adversary>``: see ``Objective.accuracy``; 1 when the discriminator is always
      right, 0.5 when it guesses.
    - ``attention/previous_weight`` and ``attention/best_similarity``: mean weight of the previous
      patch in the blend and mean cosine similarity of the best match, over the hole patches of the
      CSA layer. Several layers log ``attention_0``, ``attention_1`` … in the order of the forward
      pass. Models without a layer and compiled networks log neither.
    - ``images_per_second`` of all processes together, and ``data_wait``, the share of the time that
      passes between two batches. Both cover the time since the previous check, without
      validations. On a GPU, queued work may hide a part of the wait.
    - ``memory_mb``: the peak of allocated memory on CUDA; elsewhere the memory that the process
      holds (Linux only).

    With ``generator_every`` a check waits for the next batch from which the generator learns.

    Values are means over the processes. A warning names a term whose gradient is exactly zero for
    ``patience`` checks in a row. The warning comes again only after the gradient was back.

    The callback does not change the training. A check costs one backward pass through the generator
    for each term; ``every_n_steps`` sets how often the training pays that cost.

    Args:
        every_n_steps: batches between two checks.
        patience: checks after which a term without gradient is dead.

    Raises:
        ValueError: for values below 1.
    """

    def __init__(self, every_n_steps: int = 200, patience: int = 3) -> None:
        if every_n_steps < 1 or patience < 1:
            raise ValueError(
                f"every_n_steps={every_n_steps} and patience={patience} must be at least 1"
            )
        self.every_n_steps = every_n_steps
        self.patience = patience
        self._due = False
        self._checking = False
        self._figures: dict[str, Tensor] = {}
        self._checks_without_gradient: Counter[str] = Counter()
        self._seen: list[tuple[CSALayer, Tensor, Tensor]] = []  # inputs of the CSA layers
        self._hooks: list[RemovableHandle] = []
        self._mark = 0.0  # start of the time that is being measured
        self._images, self._waiting, self._working = 0, 0.0, 0.0  # since the previous check

    # --- time ------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def _lap(self) -> float:
        """Return the seconds since the last mark, and set a new mark."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds

    # --- a check ---------------------------------------------------------------------------------

    def on_train_batch_start(  # type: ignore[override]  # it needs an Inpainter
        self, trainer: pl.Trainer, pl_module: Inpainter, batch: Batch, batch_idx: int
    ) -> None:
        self._waiting += self._lap()
        batches = trainer.fit_loop.epoch_loop.total_batch_idx
        self._due = self._due or batches % self.every_n_steps == 0
        # A check waits for the generator, which may learn in every n-th window only.
        self._checking = self._due and pl_module.window.generator_learns
        self._due = self._due and not self._checking
        if self._checking and not pl_module.compile_networks:  # compiled code would keep the hooks
            self._hooks = [
                layer.register_forward_pre_hook(self._see)
                for layer in pl_module.generator.modules()
                if isinstance(layer, CSALayer)
            ]

    def _see(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(layer, CSALayer):
            features, mask = inputs
            self._seen.append((layer, features.detach(), mask))

    def on_generator_terms(self, pl_module: Inpainter, batch: Batch, terms: Sequence[Term]) -> None:
        if not self._checking:
            return
        scaler = getattr(pl_module.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        parameters = [p for p in pl_module.generator.parameters() if p.requires_grad]
        for term in terms:
            name = term.name.removeprefix("generator/")
            self._figures[f"grad_norm/{name}"] = gradient_norm(term, parameters, scale)
        for adversary in pl_module.adversaries:
            if adversary.verdict is not None:
                real, fake = (logits.float() for logits in adversary.verdict)
                self._figures[f"logit_gap/{adversary.name}"] = real.mean() - fake.mean()
                accuracy = adversary.objective.accuracy(real, fake)
                self._figures[f"accuracy/{adversary.name}"] = accuracy
        for number, call in enumerate(self._seen):
            group = "attention" if len(self._seen) == 1 else f"attention_{number}"
            for name, value in attention_statistics(*call).items():
                self._figures[f"{group}/{name}"] = value

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._seen = [], []

    def on_train_batch_end(  # type: ignore[override]
        self,
        trainer: pl.Trainer,
        pl_module: Inpainter,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._let_go()  # not in `on_generator_terms`, which some windows leave out
        self._images += len(batch.image)
        self._working += self._lap()
        if self._checking:
            figures = self._reduced(trainer, pl_module)
            self._warn(trainer, figures)
            logged = {f"health/{name}": value for name, value in figures.items()}
            trainer.callback_metrics.update({k: torch.tensor(v) for k, v in logged.items()})
            # `log` would drop checks that do not fall on the trainer's log_every_n_steps.
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=trainer.fit_loop.epoch_loop.total_batch_idx)
            self._figures = {}
            self._images, self._waiting, self._working = 0, 0.0, 0.0

    def _reduced(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        """This check's figures, averaged over the processes."""
        seconds = self._waiting + self._working
        figures: dict[str, Tensor | float] = {
            **self._figures,
            "images_per_second": self._images * trainer.world_size / seconds,
            "data_wait": self._waiting / seconds,
            **memory(pl_module.device),
        }
        local = torch.stack([torch.as_tensor(v, device=pl_module.device) for v in figures.values()])
        values: Tensor = trainer.strategy.reduce(local.float(), reduce_op="mean")
        return dict(zip(figures, values.tolist(), strict=True))

    def _warn(self, trainer: pl.Trainer, figures: dict[str, float]) -> None:
        for key, norm in figures.items():
            if not key.startswith("grad_norm/"):
                continue
            self._checks_without_gradient[key] += 1
            if norm != 0:
                self._checks_without_gradient[key] = 0
            if self._checks_without_gradient[key] == self.patience and trainer.is_global_zero:
                _log.warning(
                    "The loss term generator/%s is dead: its gradient into the generator has been "
                    "exactly zero for %d checks in a row, the last at step %d (health/%s). The "
                    "term teaches the generator nothing: check its weight and the values that it "
                    "is computed from.",
                    key.removeprefix("grad_norm/"),
                    self.patience,
                    trainer.fit_loop.epoch_loop.total_batch_idx,
                    key,
                )


def gradient_norm(term: Term, parameters: Sequence[nn.Parameter], scale: float = 1.0) -> Tensor:
    """Norm of the weighted term's gradient; the graph and all stored gradients do not change.

    Args:
        term: the loss term.
        parameters: the gradient is taken with respect to these.
        scale: multiplies the loss and divides the norm, so that float16 does not underflow.
    """
    if not term.loss.requires_grad:
        return term.loss.new_zeros(())
    gradients = torch.autograd.grad(
        scale * term.weight * term.loss, parameters, retain_graph=True, allow_unused=True
    )
    norm = nn.utils.get_total_norm([g for g in gradients if g is not None])
    return norm.detach() / scale


@torch.no_grad()
def attention_statistics(layer: CSALayer, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Two means over all hole patches of a batch, which tell how a CSA layer fills them.

    ``previous_weight`` is the mean of ``Dad / (Dad + Dmax)``. ``best_similarity`` is the mean
    cosine similarity of a hole patch and its best match. Both are NaN without a hole patch.

    Args:
        layer: the CSA layer.
        features: the layer's first input.
        mask: the layer's second input.

    Shape: those of the layer's inputs → scalars.
    """
    hole = reduce_mask(mask, (features.shape[2], features.shape[3]), layer.threshold) > 0.5
    found = layer.attend(features, hole)
    best = found.patches.gather(1, found.match[..., None].expand_as(found.patches))
    similarity = F.cosine_similarity(found.patches.float(), best.float(), dim=2)
    return {
        "previous_weight": found.weights[found.hole].mean(),
        "best_similarity": similarity[found.hole].mean(),
    }


def memory(device: torch.device) -> dict[str, float]:
    """``memory_mb``: the peak allocated on a CUDA device, else the process's memory (on Linux)."""
    pages = Path("/proc/self/statm")
    if device.type == "cuda":
        return {"memory_mb": torch.cuda.max_memory_allocated(device) / 2**20}
    if not pages.exists():
        return {}
    return {"memory_mb": int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20}
