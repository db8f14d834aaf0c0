from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import ParisStreetView


def test_paris_streetview_evaluates_on_one_set(
    tmp_path: Path, make_images: Callable[..., list[Path]]
) -> None:
    make_images(tmp_path, ["paris_train_original/a.JPG", "paris_eval_gt/001_im.png"])
    assert list(ParisStreetView().files(tmp_path, "train").names()) == ["a.JPG"]
    for split in ("val", "test"):
        assert list(ParisStreetView().files(tmp_path, split).names()) == ["001_im.png"]


def test_paris_streetview_says_where_to_point(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no paris_train_original"):
        ParisStreetView().files(tmp_path, "train")
