"""A model's settings as checkpoints hold them, and the paper's shorthand for them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import Tensor

from csa_inpaint.weights.files import match

RECONSTRUCTION = "csa_inpaint.losses.Reconstruction"
PAPER_LOSSES: dict[str, dict[str, Any]] = {
    "l1_rough": {"_target_": RECONSTRUCTION, "image": "rough", "weight": 1.0},
    "l1_refined": {"_target_": RECONSTRUCTION, "image": "refined", "weight": 1.0},
    "consistency": {"_target_": "csa_inpaint.losses.Consistency", "weight": 0.01},
}
ADAM = {"_target_": "torch.optim.Adam", "lr": 2e-4, "betas": [0.5, 0.999]}
STAGE = (
    "width",
    "depth",
    "fill",
    "mask_input",
    "residual",
    "norm",
    "upsampling",
)  # arguments that the first stage alone has too
ARCHITECTURE = (*STAGE, "attention_levels", "feature_levels", "detach_rough")


def paper_settings(
    generator: Mapping[str, Any] | None = None,
    losses: Mapping[str, Mapping[str, Any]] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    loss_weights: Mapping[str, float] | None = None,
    refinement: bool = True,
    attention: Mapping[str, Any] | None = None,
    learning_rate: float | None = None,
    betas: Sequence[float] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The settings of ``Inpainter`` that make the paper's model.

    The arguments are those of ``CSAInpainter``: the shorthand is laid over the complete settings.

    Raises:
        ValueError: for unknown loss terms.
    """
    architecture = {key: settings.pop(key) for key in ARCHITECTURE if key in settings}
    if not refinement:
        architecture = {key: value for key, value in architecture.items() if key in STAGE}
        whole = {"_target_": "csa_inpaint.methods.csa.RoughGenerator", **(generator or {})}
    else:
        whole = {"_target_": "csa_inpaint.Generator", **(generator or {})}
        if generator is None or attention is not None:
            layer = {"_target_": "csa_inpaint.CSALayer", **(whole.get("attention") or {})}
            whole["attention"] = {**layer, **(attention or {})}
    terms = {name: dict(term) for name, term in (losses or PAPER_LOSSES).items()}
    unknown = sorted(set(loss_weights or {}) - set(terms))
    if unknown:
        raise ValueError(
            f"unknown loss terms {', '.join(unknown)}; loss_weights has {', '.join(terms)}"
        )
    for name, weight in (loss_weights or {}).items():
        terms[name]["weight"] = weight
    rates = {"lr": learning_rate, "betas": None if betas is None else list(betas)}
    return {
        "generator": {**whole, **architecture},
        "losses": terms,
        "optimizer": {**(optimizer or ADAM), **{k: v for k, v in rates.items() if v is not None}},
        **settings,
    }


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The complete settings of a checkpoint; version 0.1 wrote the paper's shorthand."""
    return dict(settings) if "generator" in settings else paper_settings(**settings)


def model_settings(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The complete settings of the model in a checkpoint; ``check_targets`` has not seen them.

    Raises:
        ValueError: the checkpoint holds none.
    """
    settings = checkpoint.get("hyper_parameters")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path} holds weights, but not the settings of their model: csa_inpaint.train and "
            "import_released write checkpoints that hold both"
        )
    return complete(settings)


def trained_size(checkpoint: Mapping[str, Any]) -> int | None:
    """The shorter side of the images of the training in pixels, where a checkpoint says so."""
    known: int | None = checkpoint.get("trained_size")
    if known:
        return known
    size = OmegaConf.select(OmegaConf.create(checkpoint.get("config") or {}), "data.size")
    return size if size is None or isinstance(size, int) else int(min(size))


@contextmanager
def fitting_this_version(path: str | Path, replaced: Sequence[str] = ()) -> Iterator[None]:
    """Building a model: an argument that a class lacks is an error that names the checkpoint.

    Args:
        path: the checkpoint.
        replaced: the settings that the caller gave instead of the checkpoint's.

    Raises:
        ValueError: the settings do not fit the classes of this version.
    """
    try:
        yield
    except (TypeError, InstantiationException) as error:
        given = f" or {', '.join(replaced)} cannot replace them" if replaced else ""
        raise ValueError(
            f"{path}: its settings do not fit this version of the library{given}: "
            f"{error.__cause__ or error}. Load it with the version that made it"
        ) from error


def require_fit(state: Mapping[str, Any], wanted: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise a ``ValueError`` unless a checkpoint's weights are those that its settings ask for."""
    unfit = list(match(state, wanted).differences())
    if unfit:
        raise ValueError(
            f"{path}: its weights do not fit its settings in this version of the library; the file "
            f"was made by another version or changed: {'; '.join(unfit)}"
        )


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
