"""Tar files that others wrote, read as they are."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from webdataset import TarWriter

from csa_inpaint.data import (
    CenterMask,
    InpaintingDataModule,
    ShardError,
    WebDatasetModule,
    WebDatasetTars,
)
from csa_inpaint.data.datasets import webdataset
from tests.data.test_loading import Recorder, SaveAt, trainer

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def tars(tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tar files of four images with labels, the same names in each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = make_images(tmp_path / "files", [f"{index}.jpg" for index in range(12)])
    (tmp_path / "tars").mkdir()
    for number in range(3):
        with TarWriter(str(tmp_path / "tars" / f"part-{number:03}.tar")) as tar:
            for index, path in enumerate(paths[4 * number : 4 * number + 4]):
                tar.write({"__key__": f"{index:04}", "jpg": path.read_bytes(), "cls": b"7"})
    return tmp_path / "tars"


def test_images_of_foreign_tars_are_found_and_read(tars: Path) -> None:
    layout = WebDatasetTars(f"{tars}/part-{{000..001}}.tar", f"{tars}/part-002.tar")
    train, val = layout.files(None, "train"), layout.files(None, "val")
    assert [len(train), len(val)] == [8, 4]
    assert list(train.names()) == [f"{index:04}.jpg" for index in range(4)] * 2
    files = tars.parent / "files"
    assert [train.read(index) for index in range(8)] == [
        (files / f"{index}.jpg").read_bytes() for index in range(8)
    ]
    assert train[5] == tars / "part-001.tar" / "0001.jpg"
    assert train.open(5).size == (20, 24)


def test_tar_of_a_folder_is_read(tars: Path) -> None:
    (tars.parent / "files/._1.jpg").write_text("a file that macOS adds")
    with tarfile.open(tars / "folder.tar", "w") as tar:
        tar.add(tars.parent / "files", ".")
    names = list(WebDatasetTars("folder.tar", "folder.tar").files(tars, "train").names())
    assert sorted(names) == sorted(f"{index}.jpg" for index in range(12))


def test_patterns_are_wildcards_lists_and_below_the_root(tars: Path) -> None:
    whole = WebDatasetTars(f"{tars}/*.tar", f"{tars}/*.tar").files(None, "train")
    assert len(whole) == 12
    one = [f"part-00{number}.tar" for number in range(3)]
    assert list(WebDatasetTars(one, one).files(tars, "train")) == list(whole)


def test_share_of_the_images_is_held_out(tars: Path) -> None:
    layout = WebDatasetTars(f"{tars}/*.tar", val_fraction=0.25)
    train, val = (list(layout.files(None, split)) for split in ("train", "val"))
    assert [len(train), len(val)] == [9, 3]
    assert not set(train) & set(val)


def test_tars_are_scanned_once_until_one_changes(
    tars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = []
    members = webdataset._members
    monkeypatch.setattr(webdataset, "_members", lambda t: (scanned.append(t), members(t))[1])
    layout = WebDatasetTars(f"{tars}/*.tar", val_fraction=0.25)
    names = [list(layout.files(None, "train").names()) for _ in range(3)]
    assert names[0] == names[1] == names[2]
    assert len(scanned) == 1
    os.utime(tars / "part-001.tar", (1, 1))
    layout.files(None, "train")
    assert len(scanned) == 2


def test_training_on_foreign_tars_resumes_bit_for_bit(tars: Path, tmp_path: Path) -> None:
    def data() -> InpaintingDataModule:
        return WebDatasetModule(
            f"{tars}/*.tar", val_fraction=0.25, mask=CenterMask(4), size=16, batch_size=2, seed=5
        )

    whole, resumed = Recorder(), Recorder()
    trainer(tmp_path, 2, callbacks=[SaveAt(tmp_path, [3])]).fit(whole, data())
    trainer(tmp_path, 2).fit(resumed, data(), ckpt_path=tmp_path / "step3.ckpt")
    assert resumed.seen == whole.seen[3:]


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("pipe:curl x", ValueError, "is a stream"),
        ("s3://bucket/{000..001}.tar", ValueError, "is a stream"),
        ("part-{001..003}.tar", FileNotFoundError, r"1 of the 3 tar files .*part-003\.tar for one"),
        ("nothing-*.tar", FileNotFoundError, "1 of the 1 tar files"),
    ],
)
def test_urls_that_cannot_be_read_are_named(
    tars: Path, url: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        WebDatasetTars(url).files(tars, "train")


def test_compressed_or_empty_tars_are_named(tars: Path) -> None:
    with tarfile.open(tars / "packed.tar", "w:gz") as tar:
        tar.add(tars.parent / "files/0.jpg", "0.jpg")
    with pytest.raises(ShardError, match=r"packed\.tar is no uncompressed tar file"):
        WebDatasetTars("packed.tar").files(tars, "train")
    with tarfile.open(tars / "text.tar", "w") as tar:
        tar.add(tars.parent / "files/0.jpg", "0.txt")
    with pytest.raises(ShardError, match=r"no image in .*text\.tar for one"):
        WebDatasetTars("text.tar").files(tars, "train")
    with pytest.raises(ValueError, match="no test split"):
        WebDatasetTars("text.tar").files(tars, "test")
