"""Finding and reading checkpoints and weight files, with errors that name the file."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

LISTED = 20  # a message lists at most so many keys of each kind


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
        if path.suffix == ".safetensors":
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


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint that ``csa_inpaint.train`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or no checkpoint of this library.
    """
    checkpoint = read_tensors(Path(path))
    if not any(key.startswith("generator.") for key in checkpoint.get("state_dict", {})):
        raise ValueError(f"{path} is no checkpoint of csa_inpaint: it has no generator weights")
    return checkpoint


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
