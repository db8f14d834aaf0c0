import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from csa_inpaint.data import (
    CenterCrop,
    CenterMask,
    ImageFolder,
    InpaintingDataModule,
    RandomCrop,
)
from csa_inpaint.data.samplers import SampleKey
from csa_inpaint.types import Batch

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def root(tmp_path: Path, make_images: MakeImages) -> Path:
    make_images(tmp_path, ["train/a.jpg", "train/b.png", "val/c.jpg", "val/d.jpg", "val/e.jpg"])
    return tmp_path


def data(root: Path, **settings: object) -> InpaintingDataModule:
    return InpaintingDataModule(ImageFolder(), CenterMask(4), root, **{"size": 16, **settings})


def test_batches_have_the_documented_form(root: Path) -> None:
    module = data(root, size=(12, 16), batch_size=2)
    batch = next(iter(module.train_dataloader()))
    assert isinstance(batch, Batch)
    assert batch.image.shape == (2, 3, 12, 16)
    assert batch.image.dtype == torch.uint8
    assert batch.mask.shape == (2, 1, 12, 16)
    assert batch.mask.dtype == torch.bool
    assert isinstance(batch.path, list)
    assert sorted(batch.path) == [str(root / "train" / name) for name in ("a.jpg", "b.png")]
    batch = module.on_after_batch_transfer(batch, 0)
    assert batch.image.dtype == batch.mask.dtype == torch.float32
    assert -1 <= batch.image.min() < batch.image.max() <= 1
    assert set(batch.mask.unique().tolist()) == {0, 1}
    assert batch.mask.mean() == pytest.approx(16 / (12 * 16))


def test_validation_keeps_the_last_incomplete_batch(root: Path) -> None:
    batches = list(data(root, val_batch_size=2).val_dataloader())
    assert [len(batch.path) for batch in batches] == [2, 1]


def test_test_uses_the_split_that_is_asked_for(root: Path, make_images: MakeImages) -> None:
    make_images(root, ["test/f.jpg"])
    assert len(data(root).test_dataloader().dataset) == 3
    assert len(data(root, test_split="test").test_dataloader().dataset) == 1


def test_validation_masks_can_be_of_another_kind(root: Path) -> None:
    module = data(root, val_mask=CenterMask(8), batch_size=1)
    assert next(iter(module.train_dataloader())).mask.sum() == 16
    assert next(iter(module.val_dataloader())).mask.sum() == 64


def test_setup_reports_a_bad_root_before_training(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        data(tmp_path / "nowhere").setup("fit")


def test_small_image_names_file_size_and_remedies(root: Path) -> None:
    module = data(root, size=32, batch_size=1)
    with pytest.raises(ValueError, match=r"\.(jpg|png) has 24x20 pixels .*32x32.*data\.size.*up"):
        next(iter(module.train_dataloader()))
    with pytest.raises(ValueError, match=r"c\.jpg has 24x20 pixels .*data\.upscale_small=true"):
        next(iter(module.val_dataloader()))


def test_small_images_are_enlarged_on_request(root: Path) -> None:
    module = data(root, size=32, batch_size=1, upscale_small=True)
    module.train_transform = RandomCrop(resize=(1, 2))
    for loader in (module.train_dataloader(), module.val_dataloader()):
        assert next(iter(loader)).image.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_image_stops_training_and_is_named(root: Path, num_workers: int) -> None:
    (root / "train" / "a.jpg").write_bytes(b"")
    module = data(root, batch_size=2, num_workers=num_workers)
    with pytest.raises(ValueError, match=r"a\.jpg is empty"):
        next(iter(module.train_dataloader()))


@pytest.fixture
def many(tmp_path: Path, make_images: MakeImages) -> Path:
    """A folder of 200 training images, two of them bad."""
    make_images(
        tmp_path / "many", ["val/0.jpg", "val/1.jpg", *(f"train/{i:03}.jpg" for i in range(200))]
    )
    (tmp_path / "many" / "train" / "007.jpg").write_bytes(b"")
    make_images(tmp_path / "many", ["train/050.jpg"], size=(8, 8))
    return tmp_path / "many"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_files_are_skipped_reported_and_listed(
    many: Path, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    bad = [str(many / "train" / name) for name in ("007.jpg", "050.jpg")]
    module = data(many, on_bad_file="skip", num_workers=num_workers)
    with caplog.at_level(logging.WARNING):
        loader = module.train_dataloader()
        batches = [batch for epoch in range(2) for batch in loader]
    paths = [path for batch in batches for path in batch.path]
    assert len(paths) == 400
    assert not set(paths) & set(bad)
    assert sorted(module.bad_files) == bad
    assert caplog.text.count("passed over (data.on_bad_file=skip)") == 2
    for batch in batches:  # the path is that of the image that is really there
        assert len(batch.path) == len(batch.image)
    caplog.clear()
    module.teardown("fit")
    assert "2 training images were passed over" in caplog.text
    assert "007.jpg is empty" in caplog.text
    assert "050.jpg has 8x8 pixels" in caplog.text


def test_replacement_is_the_file_its_path_says_and_reproducible(many: Path) -> None:
    dataset = data(many, on_bad_file="skip").dataset("train")
    dataset.transform = CenterCrop()
    sample = dataset[SampleKey(7, 0)]
    assert [bad.path for bad in sample.skipped] == [str(many / "train" / "007.jpg")]
    (index,) = [i for i, path in enumerate(dataset.files) if str(path) == sample.path]
    assert torch.equal(sample.image, dataset[SampleKey(index, 0)].image)
    assert dataset[SampleKey(7, 0)].path == sample.path
    assert {dataset[SampleKey(7, epoch)].path for epoch in range(9)} > {sample.path}


def test_more_than_one_percent_of_bad_files_stops_training(many: Path) -> None:
    (many / "train" / "100.jpg").write_text("no image")
    loader = data(many, on_bad_file="skip").train_dataloader()
    with pytest.raises(ValueError, match=r"3 of 200 training images are bad, more than 1%"):
        list(loader)


def test_bad_files_of_validation_always_stop(many: Path) -> None:
    (many / "val" / "0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.jpg is empty"):
        list(data(many, on_bad_file="skip").val_dataloader())


def test_unknown_treatment_of_bad_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.on_bad_file=ignore: expected error or skip"):
        data(tmp_path, on_bad_file="ignore")


def test_error_of_a_transform_is_not_reported_as_a_damaged_file(root: Path) -> None:
    def broken(*args: object) -> None:
        raise ValueError("no view")

    module = data(root, train_transform=broken, batch_size=1)
    with pytest.raises(ValueError, match=r"^no view$"):
        next(iter(module.train_dataloader()))


@pytest.mark.parametrize(
    "settings",
    [{"size": 0}, {"batch_size": 0}, {"num_workers": -1}, {"repeats": 0}, {"seed": -1}],
)
def test_settings_out_of_range_are_named(tmp_path: Path, settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"data\.{name}={settings[name]}"):
        data(tmp_path, **settings)
