"""How a dataset lies on disk: which files belong to which split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from csa_inpaint.data.listing import FileList

Split = Literal["train", "val", "test"]


class NoSplitError(ValueError):
    """A dataset does not have the split that is asked for."""


class StreamError(ValueError):
    """A split is read from start to end in training alone, and cannot be looked through."""


class Layout(Protocol):
    """Knows where a dataset keeps its splits."""

    counts: Mapping[Split, int]
    """Official number of images of each split; empty where there is none."""

    def files(self, root: Path | None, split: Split) -> FileList:
        """The image files of a split.

        Args:
            root: folder of the dataset, `data.root`.
            split: which part.

        Raises:
            ValueError: `root` is missing or is not such a dataset.
            NoSplitError: there is no such split.
            FileNotFoundError: a folder or its images are missing.
        """


def first_existing(root: Path, candidates: tuple[str, ...], content: str) -> Path:
    """The first of several places that exists, or an error that names them all."""
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise FileNotFoundError(
        f"data.root={root} holds no {' or '.join(candidates)}: point it at the folder that holds "
        f"{content}"
    )


def required_root(root: Path | None, content: str) -> Path:
    """The root, or an error that says what it should be; `content` describes it."""
    if root is None:
        raise ValueError(f"data.root is missing: add data.root=/path, {content}")
    if not root.is_dir():
        reason = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(f"data.root={root} {reason}: it should be {content}")
    return root


def no_split(name: str, split: str, splits: tuple[str, ...]) -> NoSplitError:
    """The error for a split that a dataset does not have."""
    return NoSplitError(f"{name} has no {split} split: choose one of {', '.join(splits)}")
