from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import CelebA, CelebAHQ

MakeImages = Callable[..., list[Path]]
PARTITION = "000001.jpg 0\n000002.jpg 2\n000003.jpg 0\n000004.jpg 1\n"
IMAGES = [f"{number:06}.jpg" for number in range(1, 5)]


@pytest.mark.parametrize(
    ("images", "partition"),
    [
        ("img_align_celeba", "list_eval_partition.txt"),
        ("Img/img_align_celeba", "Eval/list_eval_partition.txt"),
        ("img_align_celeba/img_align_celeba", "list_eval_partition.txt"),
    ],
)
def test_celeba_follows_the_partition_file(
    tmp_path: Path, make_images: MakeImages, images: str, partition: str
) -> None:
    make_images(tmp_path / images, IMAGES)
    (tmp_path / partition).parent.mkdir(exist_ok=True)
    (tmp_path / partition).write_text(PARTITION)
    splits = {split: list(CelebA().files(tmp_path, split)) for split in ("train", "val", "test")}
    folder = tmp_path / images
    assert splits == {
        "train": [folder / "000001.jpg", folder / "000003.jpg"],
        "val": [folder / "000004.jpg"],
        "test": [folder / "000002.jpg"],
    }


def test_celeba_names_missing_parts(tmp_path: Path, make_images: MakeImages) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no .*img_align_celeba"):
        CelebA().files(tmp_path, "train")
    make_images(tmp_path / "img_align_celeba", IMAGES[:2])
    with pytest.raises(FileNotFoundError, match=r"holds no list_eval_partition\.txt"):
        CelebA().files(tmp_path, "train")
    (tmp_path / "list_eval_partition.txt").write_text(PARTITION)
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .* 000003\.jpg for one"):
        CelebA().files(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [("000001.jpg 7\n", "partition '7'"), ("000001.jpg 0\n", "no image to val")],
)
def test_celeba_refuses_another_partition_file(
    tmp_path: Path, make_images: MakeImages, content: str, message: str
) -> None:
    make_images(tmp_path / "img_align_celeba", IMAGES)
    (tmp_path / "list_eval_partition.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        CelebA().files(tmp_path, "val")


@pytest.mark.parametrize("folder", ["val_256", "val"])
def test_celebahq_uses_split_folders(tmp_path: Path, make_images: MakeImages, folder: str) -> None:
    make_images(tmp_path / folder, ["1.jpg"])
    assert list(CelebAHQ().files(tmp_path, "val")) == [tmp_path / folder / "1.jpg"]
    with pytest.raises(FileNotFoundError, match=r"no train_256 or train.*data\.layout"):
        CelebAHQ().files(tmp_path, "train")


def test_celebahq_uses_lists_of_one_heap(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["1.jpg", "2.jpg", "3.jpg"])
    (tmp_path / "train.txt").write_text("3.jpg\n1.jpg\n")
    layout = CelebAHQ(train_list="train.txt")
    assert list(layout.files(tmp_path, "train").names()) == ["3.jpg", "1.jpg"]
    with pytest.raises(ValueError, match=r"data\.layout\.test_list="):
        layout.files(tmp_path, "test")


def test_celeba_reads_the_partition_of_kaggle(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "img_align_celeba" / "img_align_celeba", IMAGES)
    lines = ["image_id,partition", *PARTITION.replace(" ", ",").splitlines()]
    (tmp_path / "list_eval_partition.csv").write_text("\r\n".join(lines))
    assert list(CelebA().files(tmp_path, "train").names()) == ["000001.jpg", "000003.jpg"]
    assert list(CelebA().files(tmp_path, "val").names()) == ["000004.jpg"]
