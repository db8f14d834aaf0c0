"""The LightningModule: batch → generator → loss terms → two optimizer steps → logs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from csa_inpaint.adversaries import Adversary
from csa_inpaint.evaluation.metrics import InpaintingMetrics
from csa_inpaint.losses.step import Step
from csa_inpaint.losses.terms import Term, loss_terms
from csa_inpaint.methods.generator import InpaintingGenerator
from csa_inpaint.networks.vgg import FULL_WIDTH, VGG16Features
from csa_inpaint.training import finiteness, preparation
from csa_inpaint.training.average import MovingAverage
from csa_inpaint.training.checkpoint import Restorable
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.training.precision import end_window, prepare_scaler
from csa_inpaint.training.schedule import LinearDecay, Rates
from csa_inpaint.training.settings import ADAM
from csa_inpaint.training.window import Window
from csa_inpaint.types import Batch, Inpainting


class Inpainter(Restorable):
    """A generator that fills holes, and its training, for any method.

    The module owns every parameter, including the discriminators' parameters, and two optimizers:
    one for the generator, one for all discriminators. Adversaries are callbacks
    (``csa_inpaint.Adversary``) that register a discriminator on the module.

    Args:
        generator: ``_target_``, the class of an ``InpaintingGenerator``, and its arguments.
        losses: the generator's loss terms in order. A key is the term's name in the log; a value is
            ``_target_``, ``weight`` and the arguments of a ``LossTerm``.
        vgg: arguments of ``VGG16Features``; the network is built only for training.
        optimizer: ``_target_`` and arguments of the generator's optimizer; the paper's Adam by
            default.
        discriminator_optimizer: the same for all discriminators, except for the learning rates,
            which the adversaries set; None for the generator's settings.
        schedule: arguments of ``LinearDecay``.
        accumulate_batches: batches whose gradients are averaged before an update. The last window
            of an epoch may be shorter.
        generator_every: the generator learns in every n-th accumulation window.
        clip_norm: largest norm of each optimizer's gradient; None clips nothing.
        ema_decay: decay of the generator's exponential moving average, which validation and
            inference use and checkpoints hold; None keeps no average.
        channels_last: memory format of the networks and the images.
        compile: True compiles the generator and the discriminators with ``torch.compile``.

    Shape: ``model(image, mask)``: see ``InpaintingGenerator``.

    Raises:
        ValueError: for loss terms that this generator leaves nothing to compare, for an unknown
            schedule unit, and for values out of range.
    """

    generator: InpaintingGenerator
    ema: MovingAverage | None
    step: Step  # only during a training step

    def __init__(
        self,
        generator: Mapping[str, Any],
        losses: Mapping[str, Mapping[str, Any]],
        vgg: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        accumulate_batches: int = 1,
        generator_every: int = 1,
        clip_norm: float | None = None,
        ema_decay: float | None = 0.999,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        # Lightning would collect a subclass's arguments, which are shorthand for these.
        settings = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.save_hyperparameters(settings)
        self.automatic_optimization = False
        self.window = Window(accumulate_batches, generator_every)
        self.schedule = LinearDecay(**(schedule or {}))
        self.optimizer = dict(optimizer or ADAM)
        self.discriminator_optimizer = dict(discriminator_optimizer or self.optimizer)
        self.clip_norm = clip_norm
        self.channels_last = channels_last
        self.compile_networks = compile
        self.vgg_options = dict(vgg or {})
        self.vgg_width = int(self.vgg_options.get("width", FULL_WIDTH))
        self.vgg: VGG16Features | None = None

        self.generator = instantiate(generator, _convert_="all")
        self.terms = loss_terms(losses, self.generator)
        self.ema = None if ema_decay is None else MovingAverage(self.generator, ema_decay)
        self.discriminators = nn.ModuleDict()
        self.metrics = InpaintingMetrics()

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        """Fill the holes, with the averaged generator when there is one."""
        out: Inpainting = (self.ema or self.generator)(self._formatted(image), mask)
        return out

    @property
    def multiple(self) -> int:
        """Heights and widths must be multiples of this number."""
        return self.generator.multiple

    def _formatted(self, image: Tensor) -> Tensor:
        return image.contiguous(memory_format=torch.channels_last) if self.channels_last else image

    # --- set-up ----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make what only training needs; adversaries have registered their discriminators."""
        if stage == "fit":
            self.trained_size = preparation.image_size(self.trainer) or self.trained_size
            self.window = self.window.fresh()  # nothing is left of an earlier training
            own = {each.name: self.discriminators[each.name] for each in self.adversaries}
            self.discriminators = nn.ModuleDict(own)  # sorted, and without an earlier training's
            self.vgg = preparation.features_for(
                self.terms, self.adversaries, self.generator, self.vgg_options, self.vgg
            )
            prepare_scaler(self.trainer)
            preparation.prepare_strategy(self.trainer, bool(self.adversaries))
            if self.compile_networks:
                preparation.compile_networks(self.generator, self.discriminators, self.adversaries)
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def restart_average(self) -> None:
        """Let the averaged generator start from the generator's present weights."""
        self.ema = self.ema and self.ema.restarted(self.generator)

    @property
    def adversaries(self) -> list[Adversary]:
        """The run's adversaries, sorted by name: the order in the config does not matter."""
        return preparation.by_name(self.trainer)

    @property
    def observers(self) -> list[TermObserver]:
        """The run's callbacks that see every step's terms."""
        return preparation.callbacks_of(self.trainer, TermObserver)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        make = partial(preparation.optimizer_of, trainer=self.trainer)
        optimizers = [make(self.optimizer, self.generator.parameters())]
        if self.adversaries:
            groups = [adversary.parameter_group(self) for adversary in self.adversaries]
            optimizers.append(make(self.discriminator_optimizer, groups))
        self.rates = Rates(self.schedule, optimizers)
        return optimizers, self.rates.schedulers

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()

    def on_train_start(self) -> None:
        self.window.restore(self.named_parameters())
        if self.trainer.ckpt_path is not None:
            by_epoch = self.schedule.unit == "epoch"
            units = self.trainer.current_epoch if by_epoch else self.window.updates
            for line in self.rates.renew(units):
                rank_zero_info(f"resumed with another setting: {line}")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # A resumed run must draw the same random numbers in this step and on this rank. WGAN-GP
        # draws some.
        self.step_seed = hash(
            (self._seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank)
        )
        torch.manual_seed(self.step_seed)

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients: a validation may fall into an accumulation window."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        batch = batch._replace(image=self._formatted(batch.image))
        update = self.window.add(last=self.trainer.is_last_batch)
        generator_optimizer, *discriminator_optimizer = _as_list(self.optimizers())
        with self.working_on(batch) as step:
            for optimizer in discriminator_optimizer:
                with self.learning(optimizer, update):
                    terms = self.discriminator_terms(batch, step.detached)
                    for observer in self.observers:
                        observer.on_discriminator_terms(self, batch, terms)
                    self.descend(optimizer, terms, batch, update)
            if self.window.generator_learns:
                with self.learning(generator_optimizer, update):
                    terms = self.generator_terms(batch, step.out)
                    for observer in self.observers:
                        observer.on_generator_terms(self, batch, terms)
                    self.descend(generator_optimizer, terms, batch, update)
        if update:
            self.finish_window()

    @contextmanager
    def working_on(self, batch: Batch) -> Iterator[Step]:
        """Run the generator, and keep ``self.step`` for the terms until the step is over."""
        try:
            with torch.set_grad_enabled(self.window.generator_learns):
                out = self.generator(batch.image, batch.mask)
        except FloatingPointError as error:  # the generator found a bad value itself
            raise finiteness.non_finite(self, batch, str(error)) from error
        self.step = Step(batch, out, self.vgg)
        try:
            yield self.step
        finally:
            del self.step

    @contextmanager
    def learning(self, optimizer: Any, update: bool) -> Iterator[None]:
        """Freeze the other side; processes synchronise their gradients only for an update."""
        try:
            with optimizer.toggle_model(sync_grad=update):
                yield
        finally:  # `toggle_model` does not untoggle after an error
            self.untoggle_optimizer(optimizer)

    def discriminator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        """One term for each adversary's discriminator; ``out`` is detached."""
        return [
            Term(f"discriminator/{a.name}", a.discriminator_loss(self, batch, out), 1.0)
            for a in self.adversaries
        ]

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        """The terms of the generator's loss (paper, Sec. 3.3), the adversaries' last."""
        return [term(self.step) for term in self.terms] + [
            Term(f"generator/{a.name}", a.generator_loss(self, batch, out), a.weight)
            for a in self.adversaries
        ]

    def descend(self, optimizer: Any, terms: Sequence[Term], batch: Batch, update: bool) -> None:
        """Log the terms, add their gradient and, at the end of a window, take the step."""
        finiteness.require_finite_terms(self, batch, terms)
        self.log_dict(
            {term.name: term.loss.detach() for term in terms},
            prog_bar=True,
            batch_size=len(batch.image),
        )
        self.manual_backward(torch.stack([term.weight * term.loss for term in terms]).sum())
        finiteness.require_finite_gradients(self, batch, optimizer)
        if update:
            optimizer.step()
            optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.window.average([p.grad for p in parameters if p.grad is not None])
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def finish_window(self) -> None:
        """Close the window after its updates: advance the scaler, the average and the schedule."""
        end_window(self.trainer)
        learnt = self.window.generator_learns
        self.window.close()
        if learnt:
            if self.ema is not None:
                self.ema.update_parameters(self.generator)
            self.rates.step("step")

    def on_train_epoch_end(self) -> None:
        self.rates.step("epoch")

    def validation_step(  # type: ignore[override]  # callbacks get the output
        self, batch: Batch, batch_idx: int
    ) -> Inpainting:
        out: Inpainting = self(batch.image, batch.mask)
        self.metrics.update(out, batch.image, batch.mask)
        return out

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def test_step(  # type: ignore[override]
        self, batch: Batch, batch_idx: int
    ) -> Inpainting:
        return self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _log_scores(self, split: str) -> None:
        scores = self.metrics.compute()
        self.log_dict({f"{split}/{name}": value for name, value in scores.items()}, sync_dist=True)
        self.metrics.reset()


def _as_list(value: Any) -> list[Any]:
    """Lightning returns one optimizer or scheduler as itself, several as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]
