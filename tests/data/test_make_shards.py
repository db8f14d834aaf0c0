"""Packing: what is refused, what is left out, and continuing after an interruption."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import ImageFolder, ShardError, Shards
from csa_inpaint.data.listing import FileList, list_images
from csa_inpaint.make_shards import check_output, make_shards

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def files(tmp_path: Path, make_images: MakeImages) -> FileList:
    make_images(tmp_path / "files", [f"{number:03}.jpg" for number in range(200)], (8, 8))
    return list_images(tmp_path / "files")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "shards"


def stamps(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.glob("*.tar")}


def test_shards_do_not_depend_on_when_and_by_how_many_they_are_made(
    files: FileList, tmp_path: Path
) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        make_shards(files, "train", tmp_path / name, 90, workers)
    for path in (tmp_path / "one").iterdir():
        if path.suffix == ".tar":
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert len(Shards().files(tmp_path / "two", "train")) == 200


def test_bad_file_stops_and_is_named(files: FileList, output: Path) -> None:
    files[150].write_bytes(b"")
    with pytest.raises(ValueError, match=r"150\.jpg is empty.* data\.on_bad_file=skip leaves"):
        make_shards(files, "train", output, 90, 1)
    assert not (output / "train.npz").exists()


def test_bad_files_are_left_out_and_listed(files: FileList, output: Path) -> None:
    files[3].write_bytes(b"")
    files[150].write_bytes(files[150].read_bytes()[:-20])
    assert make_shards(files, "train", output, 90, 1, skip_bad_files=True) == 198
    names = list(Shards().files(output, "train").names())
    assert names == [f"{n:03}.jpg" for n in range(200) if n not in (3, 150)]
    listed = (output / "train_left_out.txt").read_text().splitlines()
    assert "003.jpg is empty" in listed[0]
    assert "150.jpg cannot be decoded" in listed[1]


def test_more_than_one_percent_of_bad_files_stops(files: FileList, output: Path) -> None:
    for index in (1, 2, 3):
        files[index].write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 of 200 train images are bad, more than data\.max_bad"):
        make_shards(files, "train", output, 90, 1, skip_bad_files=True)


@pytest.mark.parametrize("skip", [False, True])
def test_interrupted_call_is_continued(files: FileList, output: Path, skip: bool) -> None:
    if skip:
        files[3].write_bytes(b"")
    make_shards(files, "train", output, 90, 1, skip)
    whole = {path.name: path.read_bytes() for path in output.glob("*.tar")}
    (output / "train.npz").unlink()
    (output / "train-000001.tar").rename(output / "train-000001.part")
    before = stamps(output)
    check_output(output, ["train"])
    assert make_shards(files, "train", output, 90, 1, skip) == 200 - skip
    assert {path.name: path.read_bytes() for path in output.glob("*.tar")} == whole
    after = stamps(output)
    assert {name: after[name] for name in before} == before
    assert not list(output.glob("*.part"))
    assert (output / "train_left_out.txt").exists() == skip


def test_shards_of_other_images_are_not_continued(
    files: FileList, output: Path, make_images: MakeImages
) -> None:
    make_shards(files, "train", output, 90, 1)
    others = files.select(range(1, 200))
    with pytest.raises(ShardError, match=r"train\.npz is there and holds other images"):
        make_shards(others, "train", output, 90, 1)
    (output / "train.npz").unlink()
    for selection, size in ((others, 90), (files, 80), (files, 100)):
        with pytest.raises(ShardError, match=r"train-000000\.tar is there and holds other images"):
            make_shards(selection, "train", output, size, 1)


def test_damaged_shard_is_not_continued(files: FileList, output: Path) -> None:
    make_shards(files, "train", output, 90, 1)
    (output / "train.npz").unlink()
    (output / "train-000001.tar").write_bytes(b"no archive")
    with pytest.raises(ShardError, match=r"train-000001\.tar is truncated or damaged"):
        make_shards(files, "train", output, 90, 1)


def test_complete_or_foreign_output_is_refused(files: FileList, output: Path) -> None:
    check_output(output, ["train", "val"])
    make_shards(files, "train", output, 90, 1)
    check_output(output, ["train", "val"])
    with pytest.raises(FileExistsError, match="already holds finished shards of train"):
        check_output(output, ["train"])
    (output / "notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which is no shard"):
        check_output(output, ["train", "val"])
    with pytest.raises(FileExistsError, match=r"notes\.txt is a file"):
        check_output(output / "notes.txt", ["train"])


def test_command_packs_and_refuses_to_repeat(files: FileList, output: Path) -> None:
    command = [sys.executable, "-m", "csa_inpaint.make_shards", f"output={output}", "workers=1"]
    command += ["data=folder", f"data.root={files.root}", "images_per_shard=100"]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=output.parent, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert "train: 180 images" in done.stdout
    assert "val: 20 images" in done.stdout
    assert f"data=shards data.root={output}" in done.stdout
    held_out = list(ImageFolder().files(files.root, "val").names())
    assert list(Shards().files(output, "val").names()) == held_out
    again = run()
    assert again.returncode == 1
    assert "already holds finished shards" in again.stderr
    assert sorted(path.name for path in output.parent.iterdir()) == ["files", "shards"]
