"""A model's settings as checkpoints hold them, and the paper's shorthand for them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LOSS_WEIGHTS = {"l1_rough": 1.0, "l1_refined": 1.0, "consistency": 0.01}
STAGE = ("width", "depth", "fill")  # arguments that the first stage alone has too
ARCHITECTURE = (*STAGE, "attention_levels", "feature_levels", "detach_rough")


def paper_settings(
    loss_weights: Mapping[str, float] | None = None,
    refinement: bool = True,
    attention: Mapping[str, Any] | None = None,
    learning_rate: float = 2e-4,
    betas: Sequence[float] = (0.5, 0.999),
    **settings: Any,
) -> dict[str, Any]:
    """The settings of ``Inpainter`` that make the paper's model.

    The arguments are the shorthand of ``CSAInpainter``.

    Raises:
        ValueError: for unknown loss terms.
    """
    unknown = sorted(set(loss_weights or {}) - set(LOSS_WEIGHTS))
    if unknown:
        raise ValueError(
            f"unknown loss terms {', '.join(unknown)}; loss_weights has {', '.join(LOSS_WEIGHTS)}"
        )
    weights = {**LOSS_WEIGHTS, **(loss_weights or {})}
    architecture = {key: settings.pop(key) for key in ARCHITECTURE if key in settings}
    generator = {"_target_": "csa_inpaint.Generator", **architecture}
    if refinement:
        generator["attention"] = {"_target_": "csa_inpaint.CSALayer", **(attention or {})}
    else:
        stage = {key: value for key, value in architecture.items() if key in STAGE}
        generator = {"_target_": "csa_inpaint.methods.csa.RoughGenerator", **stage}
    reconstruction = "csa_inpaint.losses.Reconstruction"
    losses = {
        "l1_rough": {"_target_": reconstruction, "image": "rough"},
        "l1_refined": {"_target_": reconstruction, "image": "refined"},
        "consistency": {"_target_": "csa_inpaint.losses.Consistency"},
    }
    return {
        "generator": generator,
        "losses": {name: {**term, "weight": weights[name]} for name, term in losses.items()},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": learning_rate, "betas": list(betas)},
        **settings,
    }


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The complete settings of a checkpoint; version 0.1 wrote the paper's shorthand."""
    return dict(settings) if "generator" in settings else paper_settings(**settings)


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """The settings that differ between a run and a checkpoint, as lines of text.

    An argument of a part has its default on the side that leaves the argument out. A setting of the
    model that one side lacks is new, and its default does what older versions did.
    """
    one, other = dict(flat(here)), dict(flat(there))
    for key in {**one, **other}:
        value, saved = (settings.get(key, "default") for settings in (one, other))
        new = "." not in key and "default" in (value, saved)
        if value != saved and not new:
            yield f"{key}={value} (checkpoint: {saved})"


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
