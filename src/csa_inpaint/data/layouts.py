"""How a dataset lies on disk: which files belong to which split."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from csa_inpaint.data.files import FileList, is_image, list_images

Split = Literal["train", "val", "test"]


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
            ValueError: `root` is missing or is not such a dataset, or there is no such split.
            FileNotFoundError: a folder or its images are missing.
        """


class ShippedPhotos:
    """The photographs that come with the library: 36 to train on, 10 held out."""

    counts: Mapping[Split, int] = {"train": 36, "val": 10}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The photographs of a split; `root` must be None."""
        if root is not None:
            raise ValueError(
                f"data.root={root} has no effect with the shipped photos: add data=folder to use it"
            )
        if split == "test":
            raise ValueError(no_split("the shipped photos", split, ("train", "val")))
        return list_images(Path(__file__).parent / "photos" / split)


class ImageFolder:
    """Any folder of images, with folders inside or not.

    `root/train` and `root/val` (and `root/test`) are used where they exist. Otherwise all images
    are in one heap: `val_root` names another folder for validation, or a share of the heap is held
    out. Which files these are depends on their names alone, not on their order or on a seed.

    Args:
        val_root: folder of the validation images.
        val_fraction: share of the images that is held out, at least one; None means 0.1 where
            neither `root/val` nor `val_root` is there.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self, val_root: Path | str | None = None, val_fraction: float | None = None
    ) -> None:
        if val_fraction is not None and not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction}: expected a share between 0 and 1")
        if val_root is not None and val_fraction is not None:
            raise ValueError(
                "val_root and val_fraction are both set: give the validation images a folder of "
                "their own or hold out a share, not both"
            )
        self.val_root = None if val_root is None else Path(val_root)
        self.val_fraction = val_fraction

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split."""
        root = required_root(root, "a folder of images")
        if self._has_splits(root):
            if not (root / split).is_dir():
                raise ValueError(no_split(str(root), split, ("train", "val")))
            return list_images(root / split)
        if split == "test":
            raise ValueError(no_split(str(root), split, ("train", "val")))
        if self.val_root is not None:
            return list_images(root if split == "train" else self.val_root)
        return self._held_out(list_images(root), split)

    def _has_splits(self, root: Path) -> bool:
        if not (root / "train").is_dir() and not (root / "val").is_dir():
            return False
        missing = [name for name in ("train", "val") if not (root / name).is_dir()]
        if missing:
            raise ValueError(
                f"{root} has only one of train/ and val/: add {missing[0]}/, or point data.root "
                "at the folder that holds the training images and set data.layout.val_root or "
                "data.layout.val_fraction"
            )
        if self.val_root is not None or self.val_fraction is not None:
            raise ValueError(
                f"{root} has train/ and val/, so data.layout.val_root and "
                "data.layout.val_fraction are ambiguous: leave them out, or set "
                f"data.root={root / 'train'}"
            )
        beside = next((path.name for path in sorted(root.iterdir()) if is_image(path.name)), None)
        if beside is not None:
            raise ValueError(
                f"{root} holds images beside train/ and val/, {beside} for one, which belong to "
                "neither: move them, or point data.root elsewhere"
            )
        return True

    def _held_out(self, files: FileList, split: Split) -> FileList:
        fraction = 0.1 if self.val_fraction is None else self.val_fraction
        if len(files) < 2:
            raise ValueError(
                f"{files.root} holds one image, too few to train on some and hold out others: add "
                "images, or name a folder of validation images with data.layout.val_root"
            )
        count = min(max(1, round(fraction * len(files))), len(files) - 1)
        by_hash = sorted(range(len(files)), key=lambda index: _hash(files.name(index)))
        held_out = set(by_hash[:count])
        return files.select(
            index for index in range(len(files)) if (index in held_out) == (split == "val")
        )


class ListFiles:
    """Any images that text files list: one path on each line, relative to `root`.

    A label after the path, as many datasets have it, is left out. Empty lines and lines that start
    with `#` are skipped.

    Args:
        train_list: file that lists the training images; relative names are sought in `root`.
        val_list: the same for validation.
        test_list: the same for test.
    """

    counts: Mapping[Split, int] = {}

    def __init__(
        self,
        train_list: Path | str | None,
        val_list: Path | str | None,
        test_list: Path | str | None = None,
    ) -> None:
        self.lists: dict[Split, Path | str | None] = {
            "train": train_list,
            "val": val_list,
            "test": test_list,
        }

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images that a split's list names, in the list's order."""
        root = required_root(root, "the folder that the paths in the lists start from")
        path = self.lists[split]
        if path is None:
            raise ValueError(
                f"there is no list of {split} images: add "
                f"data.layout.{split}_list=/path/to/list.txt"
            )
        return listed_files(root, [name for name, _ in read_list(root / path)], root / path)


def read_list(path: Path) -> list[tuple[str, str]]:
    """Read a list file: pairs of a path, without a leading `/`, and what follows it on its line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line does not start with the path of an image, or there is none.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise FileNotFoundError(f"the list file {path} does not exist: check the path") from None
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, label = line, ""
        if not is_image(Path(name).name):
            name, label = [*line.rsplit(maxsplit=1), ""][:2]
        if not is_image(Path(name).name):
            raise ValueError(
                f"{path}, line {number}: {line[:80]!r} is not the path of an image, with or "
                "without a label after it"
            )
        entries.append((name.lstrip("/"), label))
    if not entries:
        raise ValueError(f"the list file {path} names no image")
    return entries


def listed_files(root: Path, names: list[str], source: Path) -> FileList:
    """The named files of a folder, after a check that they are there.

    The check lists the folder, which is remembered, instead of asking for every file.

    Raises:
        FileNotFoundError: some are missing.
        ValueError: a name comes twice.
    """
    missing = set(names).difference(list_images(root).names())
    # Paths that a listing of the root does not show (hidden, or outside it) may still exist.
    absent = [name for name in names if name in missing and not (root / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of the {len(names)} images that {source} lists are missing in {root}, "
            f"{absent[0]} for one: check data.root, complete the dataset or remove them from the "
            "list"
        )
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{source} lists {twice} more than once: remove the repetition")
    return FileList(root, names)


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


def no_split(name: str, split: str, splits: tuple[str, ...]) -> str:
    """Message for a split that a dataset does not have."""
    return f"{name} has no {split} split: choose one of {', '.join(splits)}"


def _hash(name: str) -> bytes:
    return hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
