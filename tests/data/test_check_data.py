"""The report on a data set: what it finds, and whether it says that training would fail."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from csa_inpaint import check_data
from csa_inpaint.check_data import Report, check, read_images
from csa_inpaint.data import (
    CelebA,
    CenterMask,
    FileList,
    FolderMask,
    HoleRatioMask,
    ImageFolder,
    InpaintingDataModule,
    MaskGenerator,
    MixtureMask,
    PairedMask,
    RectangleMask,
    UnreadableImageError,
    load_image,
)
from csa_inpaint.data.checking import check_image
from csa_inpaint.make_shards import make_shards

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def root(tmp_path: Path, make_images: MakeImages) -> Path:
    root = tmp_path / "images"
    make_images(root, [f"train/{index}.jpg" for index in range(4)] + ["val/4.jpg", "val/5.png"])
    return root


def report_on(root: Path, mask: object = None, **settings: object) -> Report:
    settings = {"size": 16, "batch_size": 2, **settings}
    data = InpaintingDataModule(ImageFolder(), mask or RectangleMask(), root, **settings)
    return check(data, root.parent, workers=1, samples=4, masks=20)


def test_good_data_is_described_and_shown(root: Path) -> None:
    report = report_on(root)
    assert not report.errors
    assert not report.remarks
    text = report.text()
    assert "train: 4 images" in text
    assert "24x20 (4)" in text
    assert "train: 20 masks as drawn for 16x16" in text
    assert "val: 2 masks as drawn for 16x16" in text
    assert text.endswith("nothing that would stop a training")
    with Image.open(root.parent / "samples.png") as sheet:
        assert sheet.size == (4 * (2 * 16 + 6), 16 + 4 + 14)


def test_unreadable_images_are_listed(root: Path) -> None:
    (root / "train" / "0.jpg").write_bytes(b"")
    cut = (root / "val" / "5.png").read_bytes()[:-30]
    (root / "val" / "5.png").write_bytes(cut)
    report = report_on(root)
    assert len(report.errors) == 2
    assert "train: unreadable: 1 files" in report.errors[0]
    assert "0.jpg is empty" in report.errors[0]
    assert "5.png cannot be decoded" in report.errors[1]
    assert report.text().endswith("training would fail")


def test_truncated_jpeg_is_found_although_it_is_read_at_reduced_size(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    path = root / "train" / "noise.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    (error,) = report_on(root).errors
    assert "noise.jpg cannot be decoded" in error


def test_small_images_are_errors_unless_enlarged(root: Path, make_images: MakeImages) -> None:
    make_images(root, ["train/small.png"], (10, 40))
    (error,) = report_on(root).errors
    assert "too small: 1 files" in error
    assert "small.png has 10x40" in error
    assert not report_on(root, upscale_small=True).errors


def test_few_bad_images_are_remarks_when_training_passes_them_over(
    tmp_path: Path, make_images: MakeImages
) -> None:
    root = tmp_path / "many"
    make_images(root, [f"train/{index:03}.jpg" for index in range(200)], (16, 16))
    make_images(root, ["val/0.jpg"], (16, 16))
    for index in range(2):
        (root / "train" / f"{index:03}.jpg").write_bytes(b"")
    assert report_on(root).errors
    report = report_on(root, on_bad_file="skip")
    assert not report.errors
    assert "train: unreadable: 2 files" in report.remarks[0]
    (root / "train" / "002.jpg").write_bytes(b"")
    assert report_on(root, on_bad_file="skip").errors


def test_sheet_shows_pictures_from_all_over_the_set(tmp_path: Path) -> None:
    for index in range(8):
        folder = tmp_path / "images" / ("val" if index == 7 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 30 * index).save(folder / f"{index}.png")
    data = InpaintingDataModule(ImageFolder(), CenterMask(4), tmp_path / "images", 16, batch_size=1)
    check(data, tmp_path, workers=1, samples=3, masks=1)
    with Image.open(tmp_path / "samples.png") as sheet:
        cells = [38 * column for column in range(3)]
        assert [sheet.getpixel((x + 3, 3))[0] for x in cells] == [0, 60, 120]
        assert [sheet.getpixel((x + 21, 3))[0] for x in cells] == [0, 60, 120]
        assert [sheet.getpixel((x + 10, 10)) for x in cells] == [(255, 0, 255)] * 3
        below = np.asarray(sheet)[20:]
    assert all((below[:, x : x + 38] < 128).any() for x in cells)  # the files' names


def test_exif_and_modes_are_reported(root: Path, make_images: MakeImages) -> None:
    (path,) = make_images(root, ["train/turned.jpg"], (18, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.convert("L").save(path, exif=exif)
    report = report_on(root)
    assert not report.errors
    assert "30x18 (1)" in report.text()
    assert "L rotated by EXIF 1" in report.text()


def test_same_file_in_two_splits_is_a_remark(root: Path) -> None:
    shutil.copy(root / "train" / "2.jpg", root / "val" / "copy.jpg")
    report = report_on(root)
    assert not report.errors
    (remark,) = report.remarks
    assert "copy.jpg is" in remark
    assert "2.jpg of train" in remark


def test_many_faults_are_not_all_listed(root: Path) -> None:
    for index in range(13):
        (root / "train" / f"bad{index:02}.jpg").touch()
    (error,) = report_on(root).errors
    assert error.count("is empty") == 10
    assert "13 files" in error
    assert "and 3 more" in error


def test_wrong_root_is_an_error(tmp_path: Path) -> None:
    report = report_on(tmp_path / "nowhere")
    assert len(report.errors) == 2
    assert "does not exist" in report.errors[0]


def test_official_counts_are_compared(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "celeba/img_align_celeba", ["1.jpg", "2.jpg", "3.jpg"])
    (tmp_path / "celeba/list_eval_partition.txt").write_text("1.jpg 0\n2.jpg 1\n3.jpg 2\n")
    data = InpaintingDataModule(
        CelebA(), CenterMask(), tmp_path / "celeba", 16, batch_size=1, test_split="test"
    )
    report = check(data, tmp_path, workers=1, samples=1, masks=1)
    assert not report.errors
    assert report.remarks[0] == "train has 1 images, officially there are 162770"
    assert len(report.remarks) == 3


def test_mask_files_are_checked_wherever_they_are_used(root: Path) -> None:
    folder = root.parent / "masks"
    folder.mkdir()
    hole = np.zeros((16, 16), dtype=np.uint8)
    hole[4:8, 4:8] = 255
    for index in range(3):
        Image.fromarray(hole).save(folder / f"{index}.png")
    mixture = MixtureMask({"files": FolderMask(folder), "drawn": CenterMask()})
    report = report_on(root, HoleRatioMask(mixture, (0.01, 0.5)))
    assert not report.errors
    assert "mask files: 3 in" in report.text()
    assert "hole (white) of 6% of the picture on average" in report.text()

    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(folder / "no_hole.png")
    Image.fromarray(hole // 3).save(folder / "soft.png")
    (folder / "text.png").write_text("no image")
    report = report_on(root, FolderMask(folder))
    (error,) = report.errors
    assert "mask files: 3 files" in error  # the soft one lies below half everywhere
    for name in ("no_hole.png has no hole", "text.png is not an image", "soft.png has no hole"):
        assert name in error


def test_soft_and_inverted_mask_files_are_remarks(root: Path) -> None:
    folder = root.parent / "masks"
    folder.mkdir()
    known = np.full((16, 16), 250, dtype=np.uint8)
    known[4:8, 4:8] = 0
    Image.fromarray(known).save(folder / "a.png")
    with pytest.warns(UserWarning, match="polarity"):
        masks = FolderMask(folder)
    report = report_on(root, masks)
    assert not report.errors
    inverted, soft = report.remarks
    assert "polarity=white is probably the wrong one: set mask.polarity=black" in inverted
    assert "1 of 1 mask files have soft edges" in soft


def test_mask_files_of_another_size_are_an_error_unless_resized(root: Path) -> None:
    for name, side in (("a.png", 16), ("b.png", 20)):
        hole = np.zeros((side, side), dtype=np.uint8)
        hole[4:8, 4:8] = 255
        (root.parent / "masks").mkdir(exist_ok=True)
        Image.fromarray(hole).save(root.parent / "masks" / name)
    assert not report_on(root, FolderMask(root.parent / "masks")).errors
    (error,) = report_on(root, FolderMask(root.parent / "masks", resize=False)).errors
    assert "1 of 2 mask files do not have the 16x16 pixels of data.size" in error


def test_masks_that_do_not_fit_are_an_error(root: Path) -> None:
    (error,) = report_on(root, CenterMask(16)).errors
    assert "leaves nothing of a 16x16" in error
    (error,) = report_on(root, batch_size=9).errors
    assert "do not fill one batch of 9" in error


@pytest.mark.parametrize(("break_it", "status"), [(False, 0), (True, 1)])
def test_command_ends_with_a_status(root: Path, break_it: bool, status: int) -> None:
    if break_it:
        (root / "train" / "0.jpg").touch()
        (root / "train" / "0.jpg").write_bytes(b"")
    overrides = [f"data.root={root}", "data.size=16", "data.batch_size=2", "workers=1"]
    done = subprocess.run(
        [sys.executable, "-m", "csa_inpaint.check_data", "data=folder", *overrides],
        cwd=root.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("training would fail" in done.stdout) == break_it
    (report,) = root.parent.glob("runs/check_data/*/report.txt")
    assert report.read_text() in done.stdout


def test_validation_masks_are_drawn_as_training_draws_them(root: Path) -> None:
    class Refuses(MaskGenerator):
        def __call__(self, height: int, width: int, rng: np.random.Generator) -> None:
            raise ValueError("no such mask")

    (error,) = report_on(root, val_mask=Refuses()).errors
    assert error == "no such mask"


def test_pairs_that_do_not_match_are_an_error(root: Path) -> None:
    folder = root.parent / "masks"
    folder.mkdir()
    mask = Image.fromarray(CenterMask(4)(16, 16, np.random.default_rng(0)))
    for name in ("1", "2", "3"):  # relative to the folder of the split, as the pictures' names are
        mask.save(folder / f"{name}.png")
    (error,) = report_on(root, mask=PairedMask(folder), val_mask=CenterMask(4)).errors
    assert "0.jpg" in error
    assert "1.jpg" not in error


def test_shared_files_are_an_error_as_in_training(root: Path) -> None:
    data = InpaintingDataModule(
        ImageFolder(val_root=root / "train"), CenterMask(4), root / "train", 16, batch_size=1
    )
    (error,) = check(data, root.parent, workers=1, samples=1, masks=1).errors
    assert "4 of the 4 validation images are training images too" in error


def test_test_split_that_training_does_not_read_is_no_error(
    root: Path, make_images: MakeImages
) -> None:
    report = report_on(root, test_split="test")
    assert not report.errors
    assert "test, which training does not read: " in report.remarks[0]
    make_images(root, ["test/7.jpg", "test/8.jpg"])
    assert "test: 2 images" in report_on(root).text()
    (root / "test" / "7.jpg").write_bytes(b"")
    assert "unreadable" not in report_on(root).text()
    report = report_on(root, test_split="test")
    assert not report.errors
    assert "test: unreadable: 1 files" in report.remarks[0]


def test_bad_masks_are_judged_as_training_judges_them(root: Path) -> None:
    folder = root.parent / "masks"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(CenterMask(4)(16, 16, np.random.default_rng(0))).save(
            folder / f"{index}.png"
        )
    mask = FolderMask(folder)
    (folder / "1.png").write_bytes(b"no image")
    (error,) = report_on(root, mask).errors
    assert "mask files: 1 files" in error
    report = report_on(root, mask, val_mask=CenterMask(4), on_bad_file="skip")
    assert not report.errors
    assert "mask files: 1 files" in report.remarks[0]
    assert report_on(root, mask, on_bad_file="skip").errors  # validation takes them too


def test_report_survives_names_that_are_not_utf8(root: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (root / "train" / name).write_bytes(b"")
    (root / "train" / "loop.jpg").symlink_to("loop.jpg")
    (root / "train" / "folder.jpg").mkdir()
    report = report_on(root)
    text = report.text()
    text.encode()
    assert "caf\\xe9.jpg is empty" in text
    assert "loop.jpg is a link that leads back to itself" in text
    assert "Errno" not in text


def test_interrupted_check_is_continued(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    monkeypatch.setattr(check_data, "CACHE_FROM", 2)
    monkeypatch.setattr(check_data, "_TOGETHER", 1)
    (root / "train" / "0.jpg").write_bytes(b"")
    files = ImageFolder().files(root, "train")
    whole = [check_image(files, index) for index in range(4)]
    results = read_images(files, 10**6, 1, "train")
    assert [next(results) for _ in range(2)] == whole[:2]
    results.close()
    (note,) = (root.parent / "cache" / "csa_inpaint").glob("check-*.jsonl")
    with note.open("a") as lines:
        lines.write('[["half a li')
    read = []
    in_parallel = check_data.in_parallel
    monkeypatch.setattr(
        check_data,
        "in_parallel",
        lambda task, jobs, *rest: (read.extend(jobs), in_parallel(task, jobs, *rest))[1],
    )
    assert list(read_images(files, 10**6, 1, "train")) == whole
    assert [job.files.name(0) for job in read] == ["2.jpg", "3.jpg"]
    assert "2 images were read by a check that was interrupted" in capsys.readouterr().out
    assert not note.exists()


def noise(folder: Path, mode: str, **settings: object) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    picture = Image.fromarray(values).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    picture.save(folder / "a.png", **settings)
    return folder / "a.png"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "I;16"])
def test_png_is_judged_as_decoding_judges_it(tmp_path: Path, mode: str) -> None:
    path = noise(tmp_path, mode)
    whole = path.read_bytes()
    files = FileList(tmp_path, ["a.png"])
    assert check_image(files, 0).problem is None
    assert check_image(files, 0).size == (40, 33)
    rng = np.random.default_rng(1)
    for share in (0.3, 0.6, 0.9, *rng.uniform(size=20)):
        content = bytearray(whole)
        content[8 + int(share * (len(content) - 8))] ^= 1 << int(rng.integers(8))
        for damaged in (bytes(content), whole[: int(share * len(whole))]):
            path.write_bytes(damaged)
            try:
                load_image(path)
                fails = False
            except UnreadableImageError:
                fails = True
            assert (check_image(files, 0).problem is not None) == fails


def test_orientation_of_a_png_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(tmp_path, "RGB", exif=exif)
    result = check_image(FileList(tmp_path, ["a.png"]), 0)
    assert result.size == (33, 40)
    assert result.mode == "RGB rotated by EXIF"


def test_png_is_unpacked_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(tmp_path, "RGB")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: pytest.fail("decoded"))
    assert check_image(FileList(tmp_path, ["a.png"]), 0).problem is None


def test_failing_disk_is_never_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "2.jpg":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fails)  # in the processes that are forked, too
    (error,) = report_on(root, on_bad_file="skip").errors
    assert "train: on a disk or in a shard that fails: 1 files" in error
    assert "2.jpg could not be read because its disk" in error
    files = ImageFolder().files(root, "train")
    with pytest.raises(ValueError, match=r"2\.jpg could not be read because its disk"):
        make_shards(files, "train", root.parent / "shards", workers=1, skip_bad_files=True)
