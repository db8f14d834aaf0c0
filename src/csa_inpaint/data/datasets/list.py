"""Any images that text files list."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from csa_inpaint.data.datasets.layout import Split, required_root
from csa_inpaint.data.listing import FileList, is_image, list_images


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
