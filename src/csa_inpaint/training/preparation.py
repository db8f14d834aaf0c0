"""Parts that only training needs, made before the strategy wraps the module."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
from hydra.utils import instantiate
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer

from csa_inpaint.adversaries import Adversary
from csa_inpaint.losses.terms import LossTerm
from csa_inpaint.networks.vgg import VGG16Features

Kind = TypeVar("Kind", bound=pl.Callback)


def callbacks_of(trainer: pl.Trainer, kind: type[Kind]) -> list[Kind]:
    """A run's callbacks of one class and its subclasses, in their order."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [each for each in callbacks if isinstance(each, kind)]


def by_name(trainer: pl.Trainer) -> list[Adversary]:
    """A run's adversaries, sorted by name.

    Raises:
        ValueError: for two adversaries of one name.
    """
    found = callbacks_of(trainer, Adversary)  # type: ignore[type-abstract]
    names = [adversary.name for adversary in found]
    if len(set(names)) < len(names):
        raise ValueError(f"adversaries need different names, got {', '.join(sorted(names))}")
    return sorted(found, key=lambda adversary: adversary.name)


def features_for(
    terms: Sequence[LossTerm],
    adversaries: Sequence[Adversary],
    generator: nn.Module,
    options: Mapping[str, Any],
    there: VGG16Features | None,
) -> VGG16Features | None:
    """The VGG-16 that these terms and adversaries look through; None where none needs it.

    Args:
        terms, adversaries: those of the run.
        generator: the terms ask for the levels of its features.
        options: arguments of ``VGG16Features``.
        there: the VGG-16 of an earlier training; it is kept where its levels are the same.
    """
    asked = [term.vgg_levels(generator) for term in terms]
    levels = sorted({level for some in asked for level in some or ()})
    if all(some is None for some in asked) and not any(a.uses_features for a in adversaries):
        return None
    if there is not None and sorted(there.levels.values()) == levels:
        return there
    if options.get("weights") == "random":
        rank_zero_info("VGG-16 has random weights, which were never trained (model.vgg.weights)")
    return VGG16Features(**options, levels=levels)


def image_size(trainer: pl.Trainer) -> int | None:
    """The shorter side of the images of a run's data module, in pixels; None without one."""
    size = getattr(trainer.datamodule, "size", None)  # type: ignore[attr-defined]
    return None if size is None else min(size)


def prepare_strategy(trainer: pl.Trainer, adversarial: bool) -> None:
    """Tell DDP that the backward pass of one side leaves the other side's parameters unused."""
    if adversarial and isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def compile_networks(
    generator: nn.Module, discriminators: nn.ModuleDict, adversaries: Sequence[Adversary]
) -> None:
    """Compile all networks that ``torch.compile`` can differentiate as often as needed."""
    generator.compile()
    for adversary in adversaries:
        if not adversary.objective.differentiates_twice:
            discriminators[adversary.name].compile()


def optimizer_of(settings: Mapping[str, Any], parameters: Any, trainer: pl.Trainer) -> Optimizer:
    """An optimizer, fused where this is faster and possible.

    On a CPU PyTorch's default is a loop over the parameters, six times slower than the fused form.
    On a GPU the default is fast. With 16-mixed a fused optimizer would unscale the gradients
    itself, after the module averaged and clipped them.

    Args:
        settings: ``_target_`` and arguments.
        parameters: the parameters, or groups of them.
        trainer: tells the device and the precision.
    """
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    on_cpu = trainer.strategy.root_device.type == "cpu"
    chosen = {"fused", "foreach", "differentiable"} & settings.keys()
    fuses = on_cpu and not scaled and not chosen and can_fuse(settings["_target_"])
    fused = {"fused": True} if fuses else {}
    optimizer: Optimizer = instantiate({**fused, **settings, "_partial_": True})(parameters)
    return optimizer


def can_fuse(target: str) -> bool:
    """Whether PyTorch has a fused form of an optimizer for the CPU."""
    return target in {f"torch.optim.{name}" for name in ("Adam", "AdamW", "SGD", "Adagrad")}
