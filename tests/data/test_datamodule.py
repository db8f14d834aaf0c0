import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from csa_inpaint.data import (
    Augment,
    BadMaskError,
    CenterCrop,
    CenterMask,
    FolderMask,
    ImageFolder,
    InpaintingDataModule,
    ListFiles,
    MaskGenerator,
    RandomCrop,
)
from csa_inpaint.data.images import StorageError
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
    message = r"3 of 200 training images are bad, more than data\.max_bad_share=0\.01 allows"
    with pytest.raises(ValueError, match=message):
        list(loader)
    assert list(data(many, on_bad_file="skip", max_bad_share=0.015).train_dataloader())


def test_one_bad_file_of_a_small_set_is_skipped(root: Path, make_images: MakeImages) -> None:
    make_images(root, [f"train/{index}.jpg" for index in range(4)])
    (root / "train" / "0.jpg").write_bytes(b"")
    module = data(root, on_bad_file="skip", batch_size=1)
    list(module.train_dataloader())
    assert list(module.bad_files) == [str(root / "train" / "0.jpg")]
    with pytest.raises(ValueError, match=r"1 of 6 training images are bad, more than .*share=0"):
        list(data(root, on_bad_file="skip", batch_size=1, max_bad_share=0).train_dataloader())
    with pytest.raises(ValueError, match=r"data\.max_bad_share=1\.5"):
        data(root, max_bad_share=1.5)


def test_folders_and_links_named_like_images_are_skipped(
    root: Path, make_images: MakeImages
) -> None:
    make_images(root, [f"{index}.jpg" for index in range(6)])
    (root / "6.jpg").mkdir()
    (root / "7.jpg").symlink_to("7.jpg")
    (root / "list.txt").write_text("".join(f"{index}.jpg\n" for index in range(8)))
    module = InpaintingDataModule(
        ListFiles("list.txt", None), CenterMask(4), root, 16, on_bad_file="skip", max_bad_share=0.5
    )
    list(module.train_dataloader())
    assert sorted(module.bad_files) == [str(root / "6.jpg"), str(root / "7.jpg")]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_forbidden_files_are_skipped_and_failing_disks_never(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    read_bytes = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "a.jpg":
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    module = data(root, on_bad_file="skip", batch_size=1)
    if number == errno.EACCES:
        list(module.train_dataloader())
        assert "no permission to read" in module.bad_files[str(root / "train" / "a.jpg")]
    else:
        with pytest.raises(StorageError, match=r"a\.jpg could not be read because its disk"):
            list(module.train_dataloader())
        assert not module.bad_files


class FolderLike(MaskGenerator):
    """Holes of which every third comes from a file that is bad."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        if rng.integers(3) == 0:
            raise BadMaskError("masks/7.png is damaged", "masks/7.png")
        return CenterMask(4)(height, width, rng)


def test_bad_masks_are_skipped_like_images(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = data(root, batch_size=1, repeats=10, on_bad_file="skip")
    module.mask = FolderLike()
    assert len(list(module.train_dataloader())) == 20
    assert module.bad_masks == {"masks/7.png": "masks/7.png is damaged"}
    assert not module.bad_files
    module.teardown()
    assert "1 mask files were passed over" in caplog.text
    strict = data(root, batch_size=1, repeats=10)
    strict.mask = FolderLike()
    with pytest.raises(BadMaskError, match=r"masks/7\.png is damaged"):
        list(strict.train_dataloader())


def test_too_many_bad_masks_stop(root: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("0.png", "1.png", "2.png", "3.png"):
        Image.fromarray(CenterMask(4)(16, 16, np.random.default_rng(0))).save(
            tmp_path / "masks" / name
        )
    module = data(root, batch_size=1, repeats=20, on_bad_file="skip")
    module.mask = FolderMask(tmp_path / "masks")
    for name in ("1.png", "2.png"):
        (tmp_path / "masks" / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match="2 of 4 mask files are bad"):
        list(module.train_dataloader())


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


def test_validation_on_training_images_is_refused(root: Path, make_images: MakeImages) -> None:
    make_images(root, ["flat/a.jpg", "flat/b.jpg", "flat/deep/c.jpg"])
    flat = root / "flat"
    for val_root, count in ((flat, 3), (flat / "deep", 1), (flat / "../flat", 3)):
        module = data(root)
        module.root, module.layout = flat, ImageFolder(val_root=val_root)
        with pytest.raises(
            ValueError, match=rf"{count} of the {count} validation images are train"
        ):
            module.setup("fit")
        module.allow_shared_files = True
        module.setup("fit")
    data(root).setup("fit")


def test_one_list_for_training_and_validation_is_refused(root: Path) -> None:
    (root / "list.txt").write_text("train/a.jpg\n./val/c.jpg\n")
    (root / "val.txt").write_text(f"{root}/val/c.jpg\n{root}/val/d.jpg\n")
    layout = ListFiles("list.txt", "val.txt")
    module = InpaintingDataModule(layout, CenterMask(4), root, 16)
    with pytest.raises(ValueError, match=r"1 of the 2 validation images .*val/c\.jpg for one"):
        module.setup("fit")


def test_state_tells_other_data_in_words(root: Path, make_images: MakeImages) -> None:
    module = data(root)
    module.setup("fit")
    state = module.state_dict()
    moved = root.rename(root.with_name("moved"))
    same = data(moved)
    same.setup("fit")
    same.load_state_dict(state)
    make_images(moved, ["train/c.jpg"])
    other = data(moved)
    other.setup("fit")
    with pytest.raises(ValueError, match=r"trained on 2 images in .*; this run has 3 in .*allow_"):
        other.load_state_dict(state)
    other.allow_other_data = True
    other.load_state_dict(state)
    validating = data(moved)
    validating.setup("validate")
    validating.load_state_dict(state)  # to validate on other data is nothing to refuse


def test_pinned_memory_is_for_cuda_unless_asked_for(root: Path) -> None:
    def pins(device: str, **settings: object) -> bool:
        module = data(root, batch_size=2, **settings)
        strategy = SimpleNamespace(root_device=torch.device(device))
        module.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
        return module.train_dataloader().pin_memory

    assert pins("cuda")
    assert not pins("cpu")
    assert not pins("cuda", pin_memory=False)
    assert pins("cpu", pin_memory=True)
    assert not data(root, batch_size=2).train_dataloader().pin_memory


def test_augmentation_is_of_training_alone_and_reproducible(root: Path) -> None:
    def samples(split: str, augment: Augment | None) -> list[torch.Tensor]:
        dataset = data(root, augment=augment).dataset(split)
        return [dataset[SampleKey(0, epoch)].image for epoch in (0, 0, 1)]

    jitter = Augment(color_jitter={"brightness": 0.5})
    first, again, later = samples("train", jitter)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, samples("train", None)[0])
    assert torch.equal(samples("val", jitter)[0], samples("val", None)[0])
