"""Write a trained model to share: the averaged generator and the settings that build it."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save
from torch import Tensor

from csa_inpaint.cli.provenance import versions
from csa_inpaint.training.card import model_card
from csa_inpaint.training.module import Inpainter
from csa_inpaint.weights.files import METADATA, SETTINGS_FILE, SUFFIX, WEIGHTS_FILE

Precision = Literal["float32", "float16", "bfloat16"]
CARD_FILE = "README.md"  # in a folder; a single file has its card beside it, under its own name


def write_slim(model: Inpainter, path: Path, precision: Precision = "float32") -> list[Path]:
    """Write a checkpoint that holds the averaged generator and its settings, and nothing else.

    Args:
        model: trained; without an average its generator is written as it is.
        path: the file, by custom ``.ckpt``.
        precision: type of the numbers in the file. Loading makes float32 of it.

    Returns:
        the files that were written.

    Raises:
        ValueError: a weight is not finite or is too large for the precision, the settings hold
            objects instead of plain values, or the path has the extension of another format.
    """
    if path.suffix == SUFFIX or path.is_dir():
        raise ValueError(
            f"output={path}: a slim checkpoint is one file, such as slim.ckpt; format=safetensors "
            f"writes {SUFFIX} and folders"
        )
    about = _about(model)
    settings = about.pop("settings")
    weights = _weights(model, precision)
    torch.save({"state_dict": weights, "hyper_parameters": settings, **about}, path)
    return [path]


def write_safetensors(
    model: Inpainter,
    path: Path,
    precision: Precision = "float32",
    evaluation: str | None = None,
    about: str | None = None,
) -> list[Path]:
    """Write the averaged generator, its settings and a model card, without a pickle.

    A path that ends in ``.safetensors`` names one file, whose metadata holds the settings; the card
    lies beside it. Any other path names a folder, which has the files that model hubs expect:
    ``model.safetensors``, ``config.json`` and ``README.md``. A card that is there is kept.

    Args:
        model, precision: see ``write_slim``.
        path: a file or a folder.
        evaluation, about: see ``model_card``.

    Returns, Raises: see ``write_slim`` and ``model_card``.
    """
    single = path.suffix == SUFFIX
    if path.suffix and not single and not path.is_dir():
        raise ValueError(
            f"output={path}: safetensors are written to NAME{SUFFIX}, or to a folder, whose name "
            "has no extension"
        )
    card = model_card(model, precision, evaluation, about)
    if single:
        weights, settings = _weights(model, precision), _about(model)
        # `save_file` would make a file that nobody else may read.
        path.write_bytes(save(weights, {"format": "pt", METADATA: json.dumps(settings)}))
        return [path, *_write_card(card, path.with_suffix(".md"))]
    path.mkdir(parents=True, exist_ok=True)
    return [*write_folder(model, path, precision), *_write_card(card, path / CARD_FILE)]


def write_folder(model: Inpainter, folder: Path, precision: Precision) -> list[Path]:
    """Write ``model.safetensors`` and ``config.json`` into a folder that is there.

    Args, Returns, Raises: see ``write_slim``.
    """
    weights, settings = _weights(model, precision), _about(model)
    (folder / WEIGHTS_FILE).write_bytes(save(weights, {"format": "pt"}))
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
    return [folder / WEIGHTS_FILE, folder / SETTINGS_FILE]


def _write_card(card: str, path: Path) -> list[Path]:
    """Write the card unless one is there, which somebody may have written."""
    if path.exists():
        print(f"{path} is there and kept")
        return []
    path.write_text(card)
    return [path]


def _weights(model: Inpainter, precision: Precision) -> dict[str, Tensor]:
    """The generator that inference uses, under the names of a checkpoint."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision}: expected {', '.join(get_args(Precision))}")
    generator = model.generator if model.ema is None else model.ema.module
    kind: torch.dtype = getattr(torch, precision)
    state = {}
    for name, value in generator.state_dict().items():
        target = kind if value.is_floating_point() else value.dtype
        # A copy, because safetensors takes no tensors that share memory or lie in another order.
        stored = value.detach().to("cpu", target, copy=True).contiguous()
        if not value.isfinite().all():
            raise ValueError(f"generator.{name} is not finite: export an earlier checkpoint")
        if not stored.isfinite().all():
            raise ValueError(
                f"generator.{name} has values up to {value.abs().max():.3g}, too large for "
                f"{precision}: choose precision=bfloat16 or float32"
            )
        state[f"generator.{name}"] = stored
    return state


def _about(model: Inpainter) -> dict[str, Any]:
    """What builds the model again, as plain values without folders of this machine."""
    settings = {**model.hparams, "ema_decay": None}  # the weights are the average
    vgg = dict(settings["vgg"] or {})
    if "weights" in vgg:
        vgg["weights"] = Path(vgg["weights"]).name
        settings["vgg"] = vgg
    try:
        settings = json.loads(json.dumps(settings))
    except TypeError as error:
        raise ValueError(
            f"the model's settings are not plain values ({error}), so that no file can say how to "
            "build it: make its parts by mappings with a _target_, not by objects"
        ) from error
    return {
        "settings": settings,
        "trained_size": model.trained_size,
        "version": versions()["csa-inpaint"],
    }
