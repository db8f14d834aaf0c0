"""Places2 (Places365-Standard): http://places2.csail.mit.edu."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from csa_inpaint.data.datasets.layout import Split, first_existing, required_root
from csa_inpaint.data.datasets.list import listed_files
from csa_inpaint.data.listing import FileList, list_images

# Torchvision's download and newer archives say `standard`.
_FOLDERS: dict[str, dict[Split, tuple[str, ...]]] = {
    "large": {
        "train": ("data_large", "data_large_standard"),
        "val": ("val_large",),
        "test": ("test_large",),
    },
    "256": {
        "train": ("data_256", "data_256_standard"),
        "val": ("val_256",),
        "test": ("test_256",),
    },
}
_LISTS: dict[Split, str] = {
    "train": "places365_train_standard.txt",
    "val": "places365_val.txt",
    "test": "places365_test.txt",
}
_CATEGORIES = "categories_places365.txt"
_LIST_FOLDERS = (".", "filelist_places365-standard")


class Places2:
    """Places2 as its archives unpack: `data_large/<letter>/<category>`, `val_large`, `test_large`.

    The small variant (`data_256`, `val_256`, `test_256`) works alike, and so do the names
    `data_large_standard` and `data_256_standard`.

    Args:
        variant: "large" or "256"; None takes the one that is there.
        use_lists: read the official list files in `root` or in `filelist_places365-standard`
            instead of walking the folders.
        categories: use these categories only, by their official names ("beach",
            "apartment_building/outdoor"). Validation then needs `places365_val.txt` and
            `categories_places365.txt`, because its images lie in one folder.
    """

    counts: Mapping[Split, int]

    def __init__(
        self,
        variant: Literal["large", "256"] | int | None = None,
        use_lists: bool = False,
        categories: Sequence[str] | None = None,
    ) -> None:
        if variant is not None and str(variant) not in _FOLDERS:
            raise ValueError(f"variant={variant}: expected one of {', '.join(_FOLDERS)}")
        if categories is not None and not categories:
            raise ValueError("categories is empty: name one or more, or leave it out for all")
        self.variant = None if variant is None else str(variant)
        self.use_lists = use_lists
        self.categories = (
            None if categories is None else frozenset(name.strip("/") for name in categories)
        )
        everything: Mapping[Split, int] = {"train": 1_803_460, "val": 36_500, "test": 328_500}
        self.counts = everything if categories is None else {}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split, of all categories or of those asked for."""
        root = required_root(root, "the folder that holds Places2's data_large or data_256")
        images = root / self._folder(root, split)
        if self.categories is not None and split == "test":
            raise ValueError(
                "the test images of Places2 have no public categories: leave "
                "data.layout.categories out, or evaluate on val"
            )
        if not self.use_lists and (split != "val" or self.categories is None):
            return self._of_categories(list_images(images))
        source = _list_file(root, _LISTS[split])
        by_label = split == "val" and self.categories is not None
        labels = self._labels(root) if by_label else None
        return self._of_categories(listed_files(images, source, labels))

    def _of_categories(self, files: FileList) -> FileList:
        """Training images by their folders `<letter>/<category>`; flat folders pass unchanged."""
        if self.categories is None or "/" not in files.name(0):
            return files

        def categories() -> Iterator[str]:
            return (name.partition("/")[2].rpartition("/")[0] for name in files.names())

        self._check_known(set(categories()))
        return files.select(i for i, name in enumerate(categories()) if name in self.categories)

    def _labels(self, root: Path) -> frozenset[bytes]:
        path = _list_file(root, _CATEGORIES)
        pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        # "/a/apartment_building/outdoor 8"
        labels = {
            pair[0].lstrip("/").partition("/")[2]: pair[1] for pair in pairs if len(pair) == 2
        }
        self._check_known(set(labels))
        return frozenset(labels[name].encode() for name in self.categories or ())

    def _check_known(self, known: set[str]) -> None:
        unknown = sorted((self.categories or frozenset()) - known)
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(
                f"data.layout.categories: {', '.join(unknown)} is no category of this Places2{hint}"
            )

    def _folder(self, root: Path, split: Split) -> str:
        variants = [self.variant] if self.variant is not None else list(_FOLDERS)
        candidates = [name for variant in variants for name in _FOLDERS[variant][split]]
        found = [name for name in candidates if (root / name).is_dir()]
        if not found:
            raise FileNotFoundError(
                f"data.root={root} holds no {' or '.join(candidates)}: point it at the folder in "
                "which the archives of Places365-Standard were unpacked"
            )
        if len(found) > 1:
            raise ValueError(
                f"data.root={root} holds both {' and '.join(found)}: choose with "
                "data.layout.variant=large or data.layout.variant=256, or move one of them"
            )
        return found[0]


def _list_file(root: Path, name: str) -> Path:
    candidates = tuple(f"{folder}/{name}".removeprefix("./") for folder in _LIST_FOLDERS)
    return first_existing(root, candidates, "the official list files of Places365-Standard")
