from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import Places2

MakeImages = Callable[..., list[Path]]


@pytest.mark.parametrize("variant", ["large", "256"])
def test_places2_walks_the_variant_that_is_there(
    tmp_path: Path, make_images: MakeImages, variant: str
) -> None:
    train = ["a/arch/00000001.jpg", "a/apartment_building/outdoor/00000001.jpg"]
    make_images(tmp_path / f"data_{variant}", train)
    make_images(tmp_path / f"val_{variant}", ["Places365_val_00000001.jpg"])
    make_images(tmp_path / f"test_{variant}", ["Places365_test_00000001.jpg"])
    assert list(Places2().files(tmp_path, "train").names()) == sorted(train)
    assert list(Places2().files(tmp_path, "val").names()) == ["Places365_val_00000001.jpg"]
    assert list(Places2().files(tmp_path, "test").names()) == ["Places365_test_00000001.jpg"]


def test_places2_asks_which_of_two_variants(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["data_large/a/x/1.jpg", "data_256/a/x/1.jpg", "data_256/a/x/2.jpg"])
    with pytest.raises(ValueError, match=r"data\.layout\.variant=large"):
        Places2().files(tmp_path, "train")
    assert len(Places2("256").files(tmp_path, "train")) == 2
    assert len(Places2(256).files(tmp_path, "train")) == 2  # as YAML and the command line give it


def test_places2_says_where_to_point(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["data_large/a/x/1.jpg"])
    with pytest.raises(FileNotFoundError, match=r"holds no data_large or .* or data_256"):
        Places2().files(tmp_path / "data_large", "train")


def test_places2_refuses_an_unknown_variant() -> None:
    with pytest.raises(ValueError, match="variant=small: expected one of large, 256"):
        Places2("small")


@pytest.fixture
def listed(tmp_path: Path, make_images: MakeImages) -> Path:
    train = ["a/arch/1.jpg", "a/apartment_building/outdoor/1.jpg", "b/beach/1.jpg"]
    make_images(tmp_path / "data_256", train)
    make_images(tmp_path / "val_256", ["Places365_val_1.jpg", "Places365_val_2.jpg"])
    lists = tmp_path / "filelist_places365-standard"
    lists.mkdir()
    (lists / "places365_train_standard.txt").write_text("/a/arch/1.jpg 0\n/b/beach/1.jpg 2\n")
    (lists / "places365_val.txt").write_text("Places365_val_1.jpg 2\nPlaces365_val_2.jpg 0\n")
    (lists / "categories_places365.txt").write_text(
        "/a/arch 0\n/a/apartment_building/outdoor 1\n/b/beach 2\n"
    )
    return tmp_path


def test_places2_reads_the_official_lists(listed: Path) -> None:
    layout = Places2(use_lists=True)
    assert list(layout.files(listed, "train").names()) == ["a/arch/1.jpg", "b/beach/1.jpg"]
    assert len(layout.files(listed, "val")) == 2


@pytest.mark.parametrize("use_lists", [False, True])
def test_places2_keeps_the_categories_asked_for(listed: Path, use_lists: bool) -> None:
    layout = Places2(use_lists=use_lists, categories=["beach"])
    assert list(layout.files(listed, "train").names()) == ["b/beach/1.jpg"]
    assert list(layout.files(listed, "val").names()) == ["Places365_val_1.jpg"]
    (listed / "test_256").mkdir()
    with pytest.raises(ValueError, match="no public categories"):
        layout.files(listed, "test")


def test_places2_categories_may_have_parts(listed: Path) -> None:
    layout = Places2(categories=["apartment_building/outdoor", "arch"])
    assert len(layout.files(listed, "train")) == 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_places2_names_the_nearest_category(listed: Path, split: str) -> None:
    with pytest.raises(ValueError, match=r"beech is no category .* did you mean beach"):
        Places2(categories=["beech"]).files(listed, split)


def test_places2_says_which_lists_are_missing(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "val_256", ["Places365_val_1.jpg"])
    with pytest.raises(FileNotFoundError, match=r"places365_val\.txt or filelist_places365"):
        Places2(categories=["beach"]).files(tmp_path, "val")


@pytest.mark.parametrize("variant", ["256", "large"])
def test_places2_finds_the_folders_of_newer_archives(
    tmp_path: Path, make_images: MakeImages, variant: str
) -> None:
    make_images(tmp_path, [f"data_{variant}_standard/a/x/1.jpg", f"val_{variant}/2.jpg"])
    assert list(Places2(variant).files(tmp_path, "train").names()) == ["a/x/1.jpg"]
    assert list(Places2().files(tmp_path, "val").names()) == ["2.jpg"]
