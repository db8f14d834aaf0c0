"""Places2 (Places365-Standard): http://places2.csail.mit.edu."""

from pathlib import Path
from typing import Literal

from csa_inpaint.data.files import FileList, list_images
from csa_inpaint.data.layouts import Split, required_root

_FOLDERS: dict[str, dict[str, str]] = {
    "large": {"train": "data_large", "val": "val_large", "test": "test_large"},
    "256": {"train": "data_256", "val": "val_256", "test": "test_256"},
}


class Places2:
    """Places2 as its archives unpack: `data_large/<letter>/<category>`, `val_large`, `test_large`.

    The small variant (`data_256`, `val_256`, `test_256`) works alike.

    Args:
        variant: "large" or "256"; None takes the one that is there.
    """

    def __init__(self, variant: Literal["large", "256"] | None = None) -> None:
        if variant is not None and str(variant) not in _FOLDERS:
            raise ValueError(f"variant={variant}: expected one of {', '.join(_FOLDERS)}")
        self.variant = None if variant is None else str(variant)

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split, found by walking its folder."""
        root = required_root(root, "the folder that holds Places2's data_large or data_256")
        return list_images(root / self._folder(root, split))

    def _folder(self, root: Path, split: Split) -> str:
        candidates = [self.variant] if self.variant is not None else list(_FOLDERS)
        found = [name for name in candidates if (root / _FOLDERS[name][split]).is_dir()]
        if not found:
            expected = " or ".join(_FOLDERS[name][split] for name in candidates)
            raise FileNotFoundError(
                f"data.root={root} holds no {expected}: point it at the folder in which the "
                "archives of Places365-Standard were unpacked"
            )
        if len(found) > 1:
            raise ValueError(
                f"data.root={root} holds both "
                f"{' and '.join(_FOLDERS[name][split] for name in found)}: choose with "
                "data.layout.variant=large or data.layout.variant=256"
            )
        return _FOLDERS[found[0]][split]
