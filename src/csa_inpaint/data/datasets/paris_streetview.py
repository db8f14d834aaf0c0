"""Paris StreetView (Doersch et al., 2012; split of Pathak et al., 2016), from its authors only."""

from collections.abc import Mapping
from pathlib import Path

from csa_inpaint.data.datasets.layout import Split, first_existing, required_root
from csa_inpaint.data.listing import FileList, list_images


class ParisStreetView:
    """Paris StreetView: `paris_train_original/*.JPG` (936×537), `paris_eval_gt/*.png` (227×227).

    The 100 evaluation images serve validation and test alike.
    """

    counts: Mapping[Split, int] = {"train": 14_900, "val": 100, "test": 100}

    def files(self, root: Path | None, split: Split) -> FileList:
        """The images of a split."""
        folder = "paris_train_original" if split == "train" else "paris_eval_gt"
        content = "Paris StreetView's paris_train_original and paris_eval_gt"
        root = required_root(root, f"the folder that holds {content}")
        return list_images(first_existing(root, (folder,), content))
