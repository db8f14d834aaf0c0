import re
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import ImageFolder, Places2

MakeImages = Callable[..., list[Path]]


def test_folder_uses_the_splits_inside(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["train/a.jpg", "train/x/b.jpg", "val/c.jpg"])
    assert list(ImageFolder().files(tmp_path, "train").names()) == ["a.jpg", "x/b.jpg"]
    assert list(ImageFolder().files(tmp_path, "val").names()) == ["c.jpg"]
    with pytest.raises(ValueError, match="no test split"):
        ImageFolder().files(tmp_path, "test")


def test_folder_uses_a_separate_folder_for_validation(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["photos/a.jpg", "photos/b.jpg", "held/c.jpg"])
    layout = ImageFolder(val_root=tmp_path / "held")
    assert list(layout.files(tmp_path / "photos", "train").names()) == ["a.jpg", "b.jpg"]
    assert list(layout.files(tmp_path / "photos", "val").names()) == ["c.jpg"]


def test_folder_holds_out_a_share_by_name(tmp_path: Path, make_images: MakeImages) -> None:
    names = [f"{index:02}.png" for index in range(20)]
    make_images(tmp_path, names, size=(4, 4))
    layout = ImageFolder(val_fraction=0.25)
    train = set(layout.files(tmp_path, "train").names())
    val = set(layout.files(tmp_path, "val").names())
    assert len(val) == 5
    assert train | val == set(names)
    assert not train & val
    assert val != set(names[:5])
    assert val != set(names[-5:])
    assert set(layout.files(tmp_path, "val").names()) == val
    assert len(ImageFolder().files(tmp_path, "val")) == 2


def test_folder_of_two_images_holds_out_one(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.jpg", "b.jpg"])
    for layout in (ImageFolder(), ImageFolder(val_fraction=0.9)):
        assert [len(layout.files(tmp_path, split)) for split in ("train", "val")] == [1, 1]


def test_folder_of_one_image_is_too_few(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.jpg"])
    with pytest.raises(ValueError, match=r"one image.*data\.layout\.val_root"):
        ImageFolder().files(tmp_path, "train")


@pytest.mark.parametrize("settings", [{"val_root": "held"}, {"val_fraction": 0.2}])
def test_folder_with_splits_and_settings_is_ambiguous(
    tmp_path: Path, make_images: MakeImages, settings: dict[str, object]
) -> None:
    make_images(tmp_path, ["train/a.jpg", "val/c.jpg"])
    with pytest.raises(ValueError, match="ambiguous"):
        ImageFolder(**settings).files(tmp_path, "train")


def test_folder_with_images_beside_its_splits_is_ambiguous(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["train/a.jpg", "val/c.jpg", "d.jpg", "e.jpg"])
    with pytest.raises(ValueError, match=r"beside train/ and val/.*d\.jpg"):
        ImageFolder().files(tmp_path, "train")


def test_folder_with_half_a_split_says_what_is_missing(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["train/a.jpg"])
    with pytest.raises(ValueError, match=r"only one of train/ and val/: add val/"):
        ImageFolder().files(tmp_path, "train")


def test_folder_refuses_two_kinds_of_validation() -> None:
    with pytest.raises(ValueError, match="not both"):
        ImageFolder(val_root="held", val_fraction=0.1)
    with pytest.raises(ValueError, match="val_fraction=1"):
        ImageFolder(val_fraction=1)


@pytest.mark.parametrize("layout", [ImageFolder(), Places2()])
def test_missing_root_says_what_to_add(layout: ImageFolder | Places2, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.root is missing: add data\.root="):
        layout.files(None, "train")
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere does not exist"):
        layout.files(tmp_path / "nowhere", "train")


def test_folder_with_train_and_test_gives_the_line_to_paste(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path, ["train/a.jpg", "test/c.jpg"])
    with pytest.raises(ValueError, match=r"has train/ and test/ but no val/") as caught:
        ImageFolder().files(tmp_path, "train")
    root, val_root = re.search(
        r"data\.root=(\S+) data\.layout\.val_root=(\S+);", str(caught.value)
    ).groups()
    assert list(ImageFolder(val_root=val_root).files(Path(root), "val").names()) == ["c.jpg"]
    assert list(ImageFolder(val_root=val_root).files(Path(root), "train").names()) == ["a.jpg"]
