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
    with pytest.raises(FileNotFoundError, match="holds no data_large or data_256"):
        Places2().files(tmp_path / "data_large", "train")


def test_places2_refuses_an_unknown_variant() -> None:
    with pytest.raises(ValueError, match="variant=small: expected one of large, 256"):
        Places2("small")
