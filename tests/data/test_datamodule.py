from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from csa_inpaint.data import CenterMask, ImageFolder, InpaintingDataModule, RandomCrop
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


@pytest.mark.parametrize(
    "settings",
    [{"size": 0}, {"batch_size": 0}, {"num_workers": -1}, {"repeats": 0}, {"seed": -1}],
)
def test_settings_out_of_range_are_named(tmp_path: Path, settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=rf"data\.{name}={settings[name]}"):
        data(tmp_path, **settings)
