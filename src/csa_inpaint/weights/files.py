"""Finding and reading checkpoints and weight files, with errors that name the file."""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from csa_inpaint.weights.shipped import shipped_name, shipped_path

LISTED = 20  # a message lists at most so many keys of each kind
# A model in a folder has these two files. A model in one file has the settings in the metadata.
SUFFIX = ".safetensors"
WEIGHTS_FILE = f"model{SUFFIX}"
SETTINGS_FILE = "config.json"
METADATA = "csa_inpaint"


def read_tensors(path: Path) -> dict[str, Any]:
    """The dict in a ``.safetensors`` file or in a pickle, read with ``weights_only=True``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds other things than tensors and plain values, or
            holds no dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        if path.suffix == SUFFIX:
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no file of tensors, or it holds Python objects, which are not loaded "
            "because they could run any code"
        ) from error
    # A damaged pickle is a program that may fail with any of these errors.
    except (
        SafetensorError, RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError,
        AttributeError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} cannot be read: it is cut short, damaged or no file of tensors "
            f"({type(error).__name__}: {error})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return content


def read_checkpoint(source: str | Path) -> dict[str, Any]:
    """What a training or an export wrote: ``state_dict``, ``hyper_parameters`` and more.

    Args:
        source: a checkpoint, a ``.safetensors`` file, a folder that holds ``model.safetensors`` and
            ``config.json``, or ``"pretrained"`` for the weights that come with the library.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no model of this library.
    """
    path = model_file(source)
    if path.suffix == SUFFIX:
        tensors = read_tensors(path)
        checkpoint = {**_settings(path), "state_dict": tensors}
    else:
        checkpoint = read_tensors(path)
    if not any(str(key).startswith("generator.") for key in checkpoint.get("state_dict", {})):
        raise ValueError(f"{path} is no checkpoint of csa_inpaint: it has no generator weights")
    return checkpoint


def model_file(source: str | Path) -> Path:
    """The file that holds the weights of a model.

    Args:
        source: see ``read_checkpoint``.

    Raises:
        FileNotFoundError: a folder holds no model, or the library brings no such weights.
    """
    name = shipped_name(source)
    if name is not None:
        return shipped_path(name)
    path = Path(source)
    if not path.is_dir():
        return path
    if not (path / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"the folder {path} holds no {WEIGHTS_FILE}, as an export writes it: name a file, such "
            "as RUN/checkpoints/best.ckpt"
        )
    return path / WEIGHTS_FILE


def settings_file(weights: Path) -> Path:
    """Where the settings of a ``.safetensors`` file are if its metadata has none."""
    return weights.with_name(SETTINGS_FILE)


def _settings(path: Path) -> dict[str, Any]:
    """A model's settings from the metadata of its file, or else from the file beside it."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(METADATA)
    beside = settings_file(path)
    where = f"the metadata of {path}" if text is not None else str(beside)
    if text is None and not beside.is_file():
        raise ValueError(
            f"{path} holds weights, but not the settings of their model, neither in its metadata "
            f"nor in {beside}: python -m csa_inpaint.export writes both"
        )
    try:
        content = json.loads(beside.read_bytes() if text is None else text)
    except ValueError as error:
        raise ValueError(f"{where} is no JSON: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise ValueError(f"{where} lacks the settings of a model: expected a key 'settings'")
    size = content.get("trained_size")
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError(f"{where} has trained_size {size!r}: expected pixels, 1 or more, or null")
    return {"hyper_parameters": content["settings"], "trained_size": size}


class Match(NamedTuple):
    """How the tensors of a file fit a model: key names of each kind."""

    fitting: list[str]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]  # with both shapes

    def differences(self) -> Iterator[str]:
        """A line for each kind of keys that do not fit."""
        for kind, keys in self._asdict().items():
            if kind != "fitting" and keys:
                more = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
                yield f"{kind} ({len(keys)}): {', '.join(keys[:LISTED])}{more}"


def match(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> Match:
    """Compare the keys and shapes of a file with those that a model wants."""
    shapes = {
        str(key): tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        for key, value in state.items()
    }
    fits = {key: shapes.get(key) == tuple(value.shape) for key, value in wanted.items()}
    return Match(
        fitting=[key for key in wanted if fits[key]],
        missing=[key for key in wanted if key not in shapes],
        unexpected=[key for key in shapes if key not in wanted],
        misshapen=[
            f"{key} is {shapes[key]}, expected {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in shapes and not fits[key]
        ],
    )
