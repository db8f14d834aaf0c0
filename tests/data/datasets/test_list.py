from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import ListFiles

MakeImages = Callable[..., list[Path]]


def test_lists_name_the_images_in_their_order(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "images", ["b/2.jpg", "a 1.png", "c.jpg"])
    (tmp_path / "train.txt").write_text("# comment\n/b/2.jpg 17\n\n a 1.png\n")
    (tmp_path / "images" / "val.txt").write_text("c.jpg\t3\n")
    layout = ListFiles(tmp_path / "train.txt", "val.txt")
    assert list(layout.files(tmp_path / "images", "train").names()) == ["b/2.jpg", "a 1.png"]
    assert list(layout.files(tmp_path / "images", "val").names()) == ["c.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg\ngone.jpg\nalso.jpg\n", r"2 of the 3 images .*list\.txt lists .*gone\.jpg"),
        ("a.jpg\na.jpg\n", r"lists a\.jpg more than once"),
        ("a.jpg\nreadme.txt\n", r"line 2: 'readme\.txt' is not the path of an image"),
        ("\n", "names no image"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    tmp_path: Path, make_images: MakeImages, content: str, message: str
) -> None:
    make_images(tmp_path, ["a.jpg"])
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ListFiles("list.txt", None).files(tmp_path, "train")


def test_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train\.txt does not exist"):
        ListFiles("train.txt", None).files(tmp_path, "train")
    with pytest.raises(ValueError, match=r"data\.layout\.val_list="):
        ListFiles("train.txt", None).files(tmp_path, "val")
