"""The LightningModule: batch → generator → loss terms → two optimizer steps → logs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from csa_inpaint.adversaries import Adversary
from csa_inpaint.csa import CSALayer
from csa_inpaint.csa.layer import NonFiniteFeaturesError
from csa_inpaint.evaluation.metrics import InpaintingMetrics
from csa_inpaint.losses import consistency_loss, reconstruction_loss
from csa_inpaint.losses.terms import Term
from csa_inpaint.methods.csa import FILL_RGB, Generator, RoughGenerator
from csa_inpaint.networks.vgg import DEEPEST_LEVEL, FULL_WIDTH, VGG16Features, VGGFeatures
from csa_inpaint.training.average import averaged
from csa_inpaint.training.finiteness import NonFiniteLossError
from csa_inpaint.training.observer import TermObserver
from csa_inpaint.training.schedule import LinearDecay
from csa_inpaint.types import Batch, Inpainting
from csa_inpaint.weights.files import read_checkpoint

LOSS_WEIGHTS = {"l1_rough": 1.0, "l1_refined": 1.0, "consistency": 0.01}


class CSAInpainter(pl.LightningModule):
    """Coherent-semantic-attention inpainting: the two-stage generator and how it is trained.

    It owns every parameter, the discriminators' too, and two optimizers: one for the generator, one
    for all discriminators. It knows no particular GAN loss: adversaries are callbacks
    (``csa_inpaint.callbacks.Adversary``) that register a discriminator here.

    Args:
        width: channels of the first level of both networks.
        depth: halvings in both networks; heights and widths must be multiples of ``2 ** depth``.
        attention_levels: halvings before each CSA layer; none for no attention.
        feature_levels: halvings before the features that the consistency loss compares with
            VGG-16's of the same resolution; None for those of the CSA layers.
        attention: arguments of ``CSALayer``.
        refinement: False leaves out the second stage: the rough prediction is the result.
        fill: RGB colour of 0 … 255 that hides the hole from the networks.
        detach_rough: True stops the refinement's gradient at the rough prediction.
        loss_weights: of ``l1_rough``, ``l1_refined`` and ``consistency``, the mean over its levels;
            0 leaves a term out.
        vgg: arguments of ``VGG16Features``, which is made only for training.
        learning_rate: of the generator's Adam.
        betas: of both Adams.
        schedule: ``constant`` units at the full rate, then ``decay`` units of linear decay to 0;
            ``unit`` is ``"epoch"`` or ``"step"`` (an update of the generator).
        accumulate_batches: batches whose gradients are averaged before an update. The last window
            of an epoch may be shorter.
        clip_norm: largest norm of each optimizer's gradient; None clips nothing.
        ema_decay: of the exponential moving average of the generator, which validation and
            inference use and checkpoints hold; None keeps no average. During the first updates the
            decay is smaller, (1 + n) / (10 + n) after n of them.
        channels_last: memory format of the networks and the images.
        compile: compile the generator and the discriminators with ``torch.compile``.

    Shape: ``model(image, mask)``: see ``Generator``.

    Raises:
        ValueError: for unknown loss terms, terms that nothing is there for, schedule units and
            values out of range.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 8,
        attention_levels: Sequence[int] = (3,),
        feature_levels: Sequence[int] | None = None,
        attention: Mapping[str, Any] | None = None,
        refinement: bool = True,
        fill: Sequence[float] = FILL_RGB,
        detach_rough: bool = False,
        loss_weights: Mapping[str, float] | None = None,
        vgg: Mapping[str, Any] | None = None,
        learning_rate: float = 2e-4,
        betas: Sequence[float] = (0.5, 0.999),
        schedule: Mapping[str, Any] | None = None,
        accumulate_batches: int = 1,
        clip_norm: float | None = None,
        ema_decay: float | None = 0.999,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        if accumulate_batches < 1:
            raise ValueError(f"accumulate_batches={accumulate_batches}, expected at least 1")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay={ema_decay}, expected a value in [0, 1) or null")
        self.loss_weights = _known_weights(loss_weights or {})
        self.schedule = LinearDecay(**(schedule or {}))
        first, second = betas
        self.betas = (first, second)
        self.width = width
        self.learning_rate = learning_rate
        self.accumulate_batches = accumulate_batches
        self.clip_norm = clip_norm
        self.channels_last = channels_last
        self.compile_networks = compile
        self.vgg_options = dict(vgg or {})

        self.generator: RoughGenerator
        if refinement:
            layer = CSALayer(**(attention or {}))
            self.generator = Generator(
                width, depth, attention_levels, layer, fill, detach_rough, feature_levels
            )
        else:
            self.generator = RoughGenerator(width, depth, fill)
        _check_terms(self.loss_weights, self.generator)
        self.ema = None if ema_decay is None else averaged(self.generator, ema_decay)
        self.discriminators = nn.ModuleDict()
        self.metrics = InpaintingMetrics()
        self._window = 0  # batches whose gradients wait for an update
        self._accumulated: dict[str, Any] | None = None  # a restored window, until training starts
        self._truth: tuple[Tensor, VGGFeatures] | None = None
        self._generated: Inpainting | None = None  # of the batch in work, with its graph
        self._pool3: dict[str, tuple[Tensor, Tensor]] = {}  # a generated image and its features

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *args: Any, **options: Any
    ) -> "CSAInpainter":
        """Load a trained model; arguments as Lightning's.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or a checkpoint of something else.
        """
        options.setdefault("weights_only", True)
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **options)
        except (
            OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, RuntimeError,
            UnpicklingError,
        ):  # fmt: skip
            if isinstance(checkpoint_path, str | Path):
                read_checkpoint(checkpoint_path)  # raises too, and says what is wrong with the file
            raise

    # --- inference -------------------------------------------------------------------------------

    def forward(self, image: Tensor, mask: Tensor) -> Inpainting:
        """Fill the holes, with the averaged generator when there is one; see ``Generator``."""
        generator = self.generator if self.ema is None else self.ema
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        out: Inpainting = generator(image, mask)
        return out

    # --- set-up ----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make what only training needs; adversaries have registered their discriminators."""
        if stage == "fit":
            if self.loss_weights["consistency"] or self.adversaries:
                levels = self.generator.feature_levels if self.loss_weights["consistency"] else ()
                self.vgg = VGG16Features(**self.vgg_options, levels=levels)
            if self.compile_networks:
                for network in (self.generator, *self.discriminators.values()):
                    network.compile()
        if self.channels_last:
            self.to(memory_format=torch.channels_last)

    def restart_average(self) -> None:
        """Let the averaged generator start from the generator's present weights."""
        if self.ema is not None:
            self.ema = averaged(self.generator, self.hparams["ema_decay"])

    @property
    def vgg_width(self) -> int:
        """Channels of the first stage of the VGG-16 in use."""
        return int(self.vgg_options.get("width", FULL_WIDTH))

    @property
    def adversaries(self) -> list[Adversary]:
        """The run's adversaries, by name: the order in the config does not matter."""
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        found = [callback for callback in callbacks if isinstance(callback, Adversary)]
        names = [adversary.name for adversary in found]
        if len(set(names)) < len(names):
            raise ValueError(f"adversaries need different names, got {', '.join(sorted(names))}")
        return sorted(found, key=lambda adversary: adversary.name)

    @property
    def observers(self) -> list[TermObserver]:
        """The run's callbacks that see every step's terms."""
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [callback for callback in callbacks if isinstance(callback, TermObserver)]

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        # On a CPU PyTorch's default is a loop over the parameters, six times slower than the fused
        # form. On a GPU the default is fast, and leaves gradient scaling (16-mixed) to Lightning.
        fused = True if self.trainer.strategy.root_device.type == "cpu" else None
        adam = partial(Adam, lr=self.learning_rate, betas=self.betas, fused=fused)
        optimizers: list[Optimizer] = [adam(self.generator.parameters())]
        if self.adversaries:
            optimizers.append(adam([each.parameter_group(self) for each in self.adversaries]))
        return optimizers, [LambdaLR(optimizer, self.schedule) for optimizer in optimizers]

    # --- training --------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Whatever draws random numbers in a step (WGAN-GP does) draws the same ones when a run is
        # resumed at this step, on this rank.
        self.step_seed = hash(
            (self._seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank)
        )
        torch.manual_seed(self.step_seed)

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients: a validation may fall into an accumulation window."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.channels_last:
            image = batch.image.contiguous(memory_format=torch.channels_last)
            batch = batch._replace(image=image)
        self._window += 1
        update = self._window == self.accumulate_batches or self.trainer.is_last_batch

        try:
            out: Inpainting = self.generator(batch.image, batch.mask)
        except NonFiniteFeaturesError as error:
            raise self._non_finite(f"the CSA layer's {error}", batch) from error
        self._generated = out
        generator_optimizer, *discriminator_optimizer = _as_list(self.optimizers())
        for optimizer in discriminator_optimizer:
            with optimizer.toggle_model(sync_grad=update):
                terms = self.discriminator_terms(batch, out.detach())
                for observer in self.observers:
                    observer.on_discriminator_terms(self, batch, terms)
                self._descend(optimizer, terms, batch, update)
        with generator_optimizer.toggle_model(sync_grad=update):
            terms = self.generator_terms(batch, out)
            for observer in self.observers:
                observer.on_generator_terms(self, batch, terms)
            self._descend(generator_optimizer, terms, batch, update)

        if update:
            self._window = 0
            if self.ema is not None:
                self.ema.update_parameters(self.generator)
            if self.schedule.unit == "step":
                self._step_schedules()

    def generator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        """The terms of the generator's loss (paper, Sec. 3.3), the adversaries' last."""
        weights = self.loss_weights
        terms = []
        if weights["l1_rough"]:
            loss = reconstruction_loss(out.rough, batch.image)
            terms.append(Term("generator/l1_rough", loss, weights["l1_rough"]))
        if weights["l1_refined"]:
            loss = reconstruction_loss(out.refined, batch.image)
            terms.append(Term("generator/l1_refined", loss, weights["l1_refined"]))
        if weights["consistency"]:
            target = self.truth_features(batch).relu
            losses = [
                consistency_loss(features.encoder, features.decoder, target[level], features.mask)
                for level, features in out.features.items()
            ]
            loss = torch.stack(losses).mean()
            terms.append(Term("generator/consistency", loss, weights["consistency"]))
        for adversary in self.adversaries:
            loss = adversary.generator_loss(self, batch, out)
            terms.append(Term(f"generator/{adversary.name}", loss, adversary.weight))
        return terms

    def discriminator_terms(self, batch: Batch, out: Inpainting) -> list[Term]:
        """One term for each adversary's discriminator; ``out`` is detached."""
        return [
            Term(f"discriminator/{a.name}", a.discriminator_loss(self, batch, out), 1.0)
            for a in self.adversaries
        ]

    def truth_features(self, batch: Batch) -> VGGFeatures:
        """VGG-16 features of the true images, computed once a batch."""
        if self._truth is None or self._truth[0] is not batch.image:
            with torch.no_grad():
                self._truth = (batch.image, self.vgg(batch.image))
        return self._truth[1]

    def generated_features(self, out: Inpainting, image: str) -> Tensor:
        """VGG-16 pool3 of a generated image, detached as ``out`` is.

        Computed once a batch: the discriminators are shown the same features that the generator's
        gradient flows through.
        """
        given: Tensor = getattr(out, image)
        whole: Tensor = given if self._generated is None else getattr(self._generated, image)
        if whole.data_ptr() != given.data_ptr():
            whole = given  # another generator's, not of the batch in work
        if image not in self._pool3 or self._pool3[image][0] is not whole:
            self._pool3[image] = (whole, self.vgg.pool3(whole))
        features = self._pool3[image][1]
        return features if given.requires_grad else features.detach()

    def _descend(self, optimizer: Any, terms: list[Term], batch: Batch, update: bool) -> None:
        """Log the terms, add their gradient and, at the end of a window, take the step."""
        self._require_finite(terms, batch)
        self.log_dict(
            {term.name: term.loss.detach() for term in terms},
            prog_bar=True,
            batch_size=len(batch.image),
        )
        self.manual_backward(torch.stack([term.weight * term.loss for term in terms]).sum())
        self._require_finite_gradients(optimizer, batch)
        if update:
            optimizer.step()
            optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if self._window > 1:
            torch._foreach_div_(gradients, self._window)
        if self.clip_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # do not hold a batch's features until the next one
        self._truth = self._generated = None
        self._pool3.clear()

    def on_train_epoch_end(self) -> None:
        if self.schedule.unit == "epoch":
            self._step_schedules()

    def _step_schedules(self) -> None:
        for scheduler in _as_list(self.lr_schedulers()):
            scheduler.step()

    def _require_finite(self, terms: list[Term], batch: Batch) -> None:
        values = torch.stack([term.loss.detach().float() for term in terms])
        if torch.isfinite(values).all():
            return
        bad = [
            f"{t.name} = {v.item()}" for t, v in zip(terms, values, strict=True) if not v.isfinite()
        ]
        raise self._non_finite(", ".join(bad), batch)

    def _require_finite_gradients(self, optimizer: Any, batch: Batch) -> None:
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return  # float16's scaler expects them to overflow, and leaves such a step out
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if nn.utils.get_total_norm(gradients).isfinite():
            return
        bad = [
            name
            for name, parameter in self.named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]
        some = ", ".join(bad[:3]) or "all parameters together"
        raise self._non_finite(f"the gradient of {some} ({len(bad)} in all) is not finite", batch)

    def _non_finite(self, what: str, batch: Batch) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"{what}, in epoch {self.current_epoch}, on the batch of "
            f"{', '.join(batch.path)}. Training stops here; checkpoints written before are good. "
            "Try a smaller model.learning_rate, model.clip_norm=1"
            f"{'' if self.trainer.precision == '32-true' else ' or trainer.precision=32-true'}.",
            batch,
        )

    # --- validation ------------------------------------------------------------------------------

    def validation_step(  # type: ignore[override]  # what it returns goes to the callbacks
        self, batch: Batch, batch_idx: int
    ) -> Inpainting:
        out: Inpainting = self(batch.image, batch.mask)
        self.metrics.update(out, batch.image, batch.mask)
        return out

    def on_validation_epoch_end(self) -> None:
        scores = self.metrics.compute()
        self.log_dict({f"val/{name}": value for name, value in scores.items()}, sync_dist=True)
        self.metrics.reset()

    # --- checkpoints -----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, parameter in self.generator.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NonFiniteLossError(
                    f"generator.{name} is not finite; the checkpoint is not written, the last "
                    "good one stays"
                )
        if self._window:  # stopped within an accumulation window
            checkpoint["accumulated"] = {
                "batches": self._window,
                "gradients": {
                    name: parameter.grad
                    for name, parameter in self.named_parameters()
                    if parameter.grad is not None
                },
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        _check_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        saved = {key.split(".")[1] for key in state if key.startswith("discriminators.")}
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self._check_adversaries(saved)
            self._accumulated = checkpoint.get("accumulated")
        else:
            checkpoint["state_dict"] = {
                key: value for key, value in state.items() if not key.startswith("discriminators.")
            }

    def _check_adversaries(self, saved: set[str]) -> None:
        present = set(self.discriminators)
        if saved != present:
            differences = [f"{name} is missing here" for name in sorted(saved - present)]
            differences += [f"{name} is not in the checkpoint" for name in sorted(present - saved)]
            raise ValueError(
                f"the checkpoint was trained with adversaries [{', '.join(sorted(saved))}]: "
                f"{'; '.join(differences)}. Resume with adversary=[{','.join(sorted(saved))}]"
            )

    def on_train_start(self) -> None:
        """Continue an accumulation window; Lightning clears the gradients after it has loaded."""
        if self._accumulated is None:
            return
        self._window = self._accumulated["batches"]
        parameters = dict(self.named_parameters())
        for name, gradient in self._accumulated["gradients"].items():
            parameters[name].grad = gradient.to(parameters[name].device)
        self._accumulated = None


def _known_weights(weights: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(weights) - set(LOSS_WEIGHTS))
    if unknown:
        raise ValueError(
            f"unknown loss terms {', '.join(unknown)}; loss_weights has {', '.join(LOSS_WEIGHTS)}"
        )
    return {**LOSS_WEIGHTS, **weights}


def _check_terms(weights: Mapping[str, float], generator: RoughGenerator) -> None:
    """Every weighted term must have something to compare."""
    if weights["l1_refined"] and not isinstance(generator, Generator):
        raise ValueError(
            f"loss_weights.l1_refined={weights['l1_refined']}, but without refinement the rough "
            "image is all there is: set it to 0, and loss_weights.consistency too"
        )
    levels = generator.feature_levels
    if weights["consistency"] and not levels:
        raise ValueError(
            f"loss_weights.consistency={weights['consistency']}, but there are no features to "
            "compare: set it to 0, or name their level (feature_levels=[3])"
        )
    if weights["consistency"] and max(levels) > DEEPEST_LEVEL:
        raise ValueError(
            f"VGG-16 has no features at level {max(levels)}, 1/{2 ** max(levels)} of the image's "
            f"size, for the consistency loss: name feature_levels from 1 to {DEEPEST_LEVEL}, or "
            "set loss_weights.consistency=0"
        )


def _check_checkpoint(checkpoint: Mapping[str, Any]) -> None:
    state = checkpoint.get("state_dict", {})
    if not any(key.startswith("generator.") for key in state):
        raise ValueError("this is no checkpoint of a CSAInpainter: it has no generator weights")


def _as_list(value: Any) -> list[Any]:
    """Lightning returns one optimizer or scheduler as itself, several as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]
