"""Masks as a training uses them: prepared, bad files passed over, paired with pictures."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from csa_inpaint.data import (
    BadMaskError,
    CenterCrop,
    FolderMask,
    ImageFolder,
    InpaintingDataModule,
    IrregularTestMask,
    MaskGenerator,
    MixtureMask,
    PairedMask,
    RectangleMask,
)
from csa_inpaint.data.loading import InpaintingDataset, SampleKey

Save = Callable[[Path, np.ndarray], Path]


@pytest.fixture
def root(tmp_path: Path, save: Save) -> Path:
    """Ten training and four validation images; masks of 1 to 9 of 10 columns, two of them bad."""
    for split, count in (("train", 10), ("val", 4)):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (16, 16), "grey").save(tmp_path / f"images/{split}/{number}.png")
    for columns in range(1, 10):
        save(tmp_path / f"masks/{columns}.png", np.arange(10)[None].repeat(10, 0) < columns)
    (tmp_path / "masks" / "3.png").write_text("no mask")
    (tmp_path / "masks" / "5.png").write_bytes(b"")
    return tmp_path


def data(root: Path, mask: MaskGenerator, **settings: object) -> InpaintingDataModule:
    few = {"size": 10, "batch_size": 2, "repeats": 4, "max_bad_share": 1.0}
    settings = {**few, **settings}
    return InpaintingDataModule(ImageFolder(), mask, root / "images", **settings)


def columns(module: InpaintingDataModule, split: str) -> list[int]:
    loader = module.train_dataloader() if split == "train" else module.val_dataloader()
    return [int(mask.sum()) // 10 for batch in loader for mask in batch.mask]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_masks_are_skipped_reported_and_listed(
    root: Path, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    module = data(root, FolderMask(root / "masks"), on_bad_file="skip", num_workers=num_workers)
    bad = [str(root / "masks" / name) for name in ("3.png", "5.png")]
    with caplog.at_level(logging.WARNING):
        drawn = columns(module, "train")
    assert len(drawn) == 40
    assert set(drawn) == {1, 2, 4, 6, 7, 8, 9}
    assert sorted(module.bad_masks) == bad
    assert module.bad_files == {}  # no image was bad, whatever the share of bad masks
    assert caplog.text.count("passed over (data.on_bad_file=skip)") == 2
    assert drawn == columns(data(root, FolderMask(root / "masks"), on_bad_file="skip"), "train")
    caplog.clear()
    module.teardown("fit")
    assert "2 mask files were passed over" in caplog.text
    assert "3.png is not an image" in caplog.text


def test_another_mask_leaves_the_picture_as_it_was(root: Path) -> None:
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"images/train/{number}.png")
    skipping = data(root, FolderMask(root / "masks"), on_bad_file="skip").dataset("train")
    plain = data(root, RectangleMask()).dataset("train")
    samples = [skipping[SampleKey(number, 0)] for number in range(40)]
    assert sum(bool(sample.skipped) for sample in samples) > 3
    for number, sample in enumerate(samples):
        assert sample.path == plain[SampleKey(number, 0)].path
        assert sample.image.equal(plain[SampleKey(number, 0)].image)


def test_validation_skips_bad_masks_and_keeps_one_for_each_picture(root: Path) -> None:
    for name in (1, 6, 7, 8, 9):
        (root / "masks" / f"{name}.png").write_text("no mask")
    for path in (root / "images" / "train").iterdir():
        path.unlink()  # validation needs no training images, nor the number of them
    module = data(root, FolderMask(root / "masks"), on_bad_file="skip")
    drawn = columns(module, "val")
    assert len(drawn) == 4
    assert set(drawn) <= {2, 4}
    assert module.bad_masks
    assert drawn == columns(module, "val")


def test_skipping_images_is_no_leave_to_skip_masks(root: Path) -> None:
    files = ImageFolder().files(root / "images", "train")
    dataset = InpaintingDataset(
        files, CenterCrop(), FolderMask(root / "masks"), (10, 10), seed=0, skip_bad_files=True
    )
    with pytest.raises(BadMaskError):
        [dataset[SampleKey(0, epoch)] for epoch in range(40)]
    dataset.skip_bad_masks = True
    assert len([dataset[SampleKey(0, epoch)] for epoch in range(40)]) == 40


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_masks_stop_training_and_are_named(root: Path, num_workers: int) -> None:
    module = data(root, FolderMask(root / "masks"), num_workers=num_workers)
    with pytest.raises(BadMaskError, match=r"\d\.png (is not an image|is empty)"):
        columns(module, "train")


def test_folder_of_bad_masks_stops_all_the_same(root: Path) -> None:
    for path in (root / "masks").iterdir():
        path.write_text("no mask")
    module = data(root, FolderMask(root / "masks"), on_bad_file="skip")
    with pytest.raises(BadMaskError, match=r"\d\.png is not an image"):
        columns(module, "train")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_masks_of_a_ratio_are_measured_at_set_up(root: Path, num_workers: int) -> None:
    mask, ratio = FolderMask(root / "masks"), (0.2, 0.65)
    with pytest.raises(BadMaskError, match=r"3\.png is not an image"):
        data(root, mask, hole_ratio=ratio).setup("fit")
    module = data(root, mask, hole_ratio=ratio, on_bad_file="skip", num_workers=num_workers)
    module.setup("fit")
    assert [Path(path).name for path in module.bad_masks] == ["3.png", "5.png"]
    assert set(columns(module, "train")) == {2, 4, 6}
    assert set(columns(module, "val")) <= {2, 4, 6}


def test_range_that_no_file_meets_ends_set_up(root: Path) -> None:
    module = data(root, FolderMask(root / "masks"), hole_ratio=(0.92, 0.95), on_bad_file="skip")
    with pytest.raises(ValueError, match="0 of 9 mask files"):
        module.setup("fit")
    module = data(
        root,
        RectangleMask(),
        val_mask=MixtureMask({"a": IrregularTestMask(root / "masks", ratio=(0.95, 0.99))}),
        on_bad_file="skip",
    )
    with pytest.raises(ValueError, match="none of 9 mask files"):
        module.setup("validate")


@pytest.fixture
def pairs(root: Path, save: Save) -> Path:
    for number in range(4):
        hole = np.zeros((16, 16), dtype=bool)
        hole[:, 3 : 6 + 2 * number] = True
        save(root / f"pairs/{number}.png", hole)
    return root


@pytest.mark.parametrize("num_workers", [0, 2])
def test_validation_on_pairs_uses_the_mask_of_each_picture(pairs: Path, num_workers: int) -> None:
    module = data(
        pairs,
        RectangleMask(),
        val_mask=PairedMask(pairs / "pairs"),
        size=16,
        num_workers=num_workers,
    )
    module.setup("fit")
    found = {
        Path(path).stem: int(mask[0, 0].sum())
        for batch in module.val_dataloader()
        for path, mask in zip(batch.path, batch.mask, strict=True)
    }
    assert found == {"0": 3, "1": 5, "2": 7, "3": 9}


def test_picture_without_its_mask_ends_set_up(pairs: Path) -> None:
    (pairs / "pairs" / "2.png").unlink()
    module = data(pairs, RectangleMask(), val_mask=PairedMask(pairs / "pairs"))
    with pytest.raises(FileNotFoundError, match=r"no mask in .*pairs for 2\.png"):
        module.setup("fit")


def test_bad_mask_of_a_pair_stops_validation(pairs: Path) -> None:
    (pairs / "pairs" / "2.png").write_text("no mask")
    module = data(pairs, RectangleMask(), val_mask=PairedMask(pairs / "pairs"), on_bad_file="skip")
    with pytest.raises(ValueError, match=r"2\.png is not an image"):
        list(module.val_dataloader())


def test_bad_mask_of_a_pair_has_training_take_another_picture(pairs: Path) -> None:
    for number in range(4, 10):
        Image.open(pairs / "pairs" / "0.png").save(pairs / f"pairs/{number}.png")
    (pairs / "pairs" / "2.png").write_text("no mask")
    module = data(pairs, PairedMask(pairs / "pairs"), on_bad_file="skip", size=16)
    dataset = module.dataset("train")
    numbers = [SampleKey(number, 0) for number in range(10)]
    taken = {Path(dataset[key].path).stem for key in numbers}
    assert "2" not in taken
    (skipped,) = dataset[SampleKey(2, 0)].skipped
    assert skipped.path == str(pairs / "images" / "train" / "2.png")
    assert "the mask of 2.png" in skipped.reason


def test_crop_and_mask_of_a_pair_agree(pairs: Path) -> None:
    for number in range(10):
        hole = np.random.default_rng(number).random((40, 40)) < 0.5
        Image.fromarray(hole).save(pairs / f"pairs/{number}.png")
        Image.fromarray(hole).convert("RGB").save(pairs / f"images/train/{number}.png")
    dataset = data(pairs, PairedMask(pairs / "pairs"), size=16).dataset("train")
    for number in range(40):
        sample = dataset[SampleKey(number, 0)]
        assert sample.mask[0].equal(sample.image[0] == 255)
