"""The order of samples: reproducible, shared between ranks, resumable."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer

from csa_inpaint.data import (
    CenterCrop,
    ImageFolder,
    InpaintingDataModule,
    RectangleMask,
    load_image,
    to_float,
)
from csa_inpaint.data.images import decode_at_least, open_image
from csa_inpaint.data.samplers import EvaluationSampler, SampleKey, TrainSampler
from csa_inpaint.data.transforms import show
from csa_inpaint.types import Batch

Seen = tuple[int, list[str], str, str]  # epoch, paths, digest of the masks, digest of the images


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:12]


class Recorder(LightningModule):
    """Trains one number by hand and writes down every batch it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Seen] = []
        self.validated: list[Seen] = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        assert batch.image.dtype == torch.float32
        self.seen.append((self.current_epoch, batch.path, digest(batch.mask), digest(batch.image)))
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward((self.weight - batch.image.mean()) ** 2)
        optimizer.step()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated.append((0, batch.path, digest(batch.mask), digest(batch.image)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves after the given number of batches in all, and at the end of every epoch."""

    def __init__(self, folder: Path, steps: list[int]) -> None:
        self.folder, self.steps, self.done = folder, steps, 0

    def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
        self.done += 1
        if self.done in self.steps:
            trainer.save_checkpoint(self.folder / f"step{self.done}.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, *args: object) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")


def data(root: Path, **settings: object) -> InpaintingDataModule:
    settings = {"size": 16, "batch_size": 2, "repeats": 2, "seed": 5, **settings}
    return InpaintingDataModule(ImageFolder(), RectangleMask(), root, **settings)


def trainer(tmp_path: Path, epochs: int, **settings: object) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **settings,
    )


@pytest.fixture
def photos(tmp_path: Path, make_images: Callable[..., list[Path]]) -> Path:
    root = tmp_path / "photos"
    make_images(root / "train", [f"{index}.jpg" for index in range(5)])
    make_images(root / "val", [f"{index}.png" for index in range(5, 8)])
    return root


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("limit", [1.0, 3])
def test_resume_continues_with_the_next_batch(
    photos: Path, tmp_path: Path, num_workers: int, limit: float
) -> None:
    per_epoch = 5 if limit == 1.0 else 3
    whole = Recorder()
    saved_at = [1, per_epoch - 1, per_epoch, per_epoch + 2]
    trainer(tmp_path, 3, limit_train_batches=limit, callbacks=[SaveAt(tmp_path, saved_at)]).fit(
        whole, data(photos, num_workers=num_workers)
    )
    assert len(whole.seen) == 3 * per_epoch
    assert len({seen[2:] for seen in whole.seen}) == len(whole.seen)
    starts = {f"step{step}.ckpt": step for step in saved_at}
    starts |= {"epoch0.ckpt": per_epoch, "epoch1.ckpt": 2 * per_epoch}
    for name, start in starts.items():
        resumed = Recorder()
        trainer(tmp_path, 3, limit_train_batches=limit).fit(
            resumed, data(photos, num_workers=num_workers), ckpt_path=tmp_path / name
        )
        assert resumed.seen == whole.seen[start:], name
        assert torch.equal(resumed.weight, whole.weight), name


def test_resume_after_validation_within_an_epoch(photos: Path, tmp_path: Path) -> None:
    class SaveInValidation(Callback):
        def on_validation_end(self, trainer: Trainer, module: Recorder) -> None:
            trainer.save_checkpoint(tmp_path / f"seen{len(module.seen)}.ckpt")

    whole = Recorder()
    settings = {"val_check_interval": 2, "num_sanity_val_steps": 0}
    trainer(tmp_path, 2, callbacks=[SaveInValidation()], **settings).fit(whole, data(photos))
    for start in (2, 4, 7):
        resumed = Recorder()
        trainer(tmp_path, 2, **settings).fit(
            resumed, data(photos), ckpt_path=tmp_path / f"seen{start}.ckpt"
        )
        assert resumed.seen == whole.seen[start:]


def test_resume_within_an_epoch_refuses_another_batch_size(photos: Path, tmp_path: Path) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [2])]).fit(Recorder(), data(photos))
    with pytest.raises(ValueError, match="batch_size was 2, is 3"):
        trainer(tmp_path, 2).fit(
            Recorder(), data(photos, batch_size=3), ckpt_path=tmp_path / "step2.ckpt"
        )


@pytest.mark.parametrize("name", ["epoch0.ckpt", "step5.ckpt"])
def test_resume_at_the_end_of_an_epoch_allows_another_batch_size(
    photos: Path, tmp_path: Path, name: str
) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [5])]).fit(Recorder(), data(photos))
    resumed = Recorder()
    trainer(tmp_path, 2).fit(resumed, data(photos, batch_size=3), ckpt_path=tmp_path / name)
    assert [seen[0] for seen in resumed.seen] == [1, 1, 1]


def test_interrupted_step_is_repeated(photos: Path, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "interrupted.ckpt")

    whole = Recorder()
    trainer(tmp_path, 1, callbacks=[Interrupt()]).fit(whole, data(photos))
    resumed = Recorder()
    trainer(tmp_path, 1).fit(resumed, data(photos), ckpt_path=tmp_path / "interrupted.ckpt")
    assert resumed.seen == whole.seen[3:]


def test_loader_after_training_starts_from_the_first_batch(photos: Path, tmp_path: Path) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [2])]).fit(Recorder(), data(photos))
    module = data(photos)
    resumed = trainer(tmp_path, 1)
    resumed.fit(Recorder(), module, ckpt_path=tmp_path / "step2.ckpt")
    assert sum(1 for _ in resumed.train_dataloader) == 5
    assert sum(1 for _ in module.train_dataloader()) == 5


def test_samples_do_not_depend_on_the_number_of_workers(photos: Path) -> None:
    def batches(num_workers: int) -> list[tuple[list[str], str, str]]:
        loader = data(photos, num_workers=num_workers).train_dataloader()
        found = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            found += [(b.path, digest(b.mask), digest(b.image)) for b in loader]
        return found

    assert batches(0) == batches(1) == batches(2)


def test_seed_epoch_and_number_each_change_the_sample(photos: Path) -> None:
    def sample(seed: int, number: int, epoch: int) -> tuple[str, str]:
        result = data(photos, seed=seed).dataset("train")[SampleKey(number, epoch)]
        return digest(result.mask), digest(result.image)

    one = sample(0, 1, 0)
    assert one == sample(0, 1, 0)
    for other in (sample(1, 1, 0), sample(0, 1, 1), sample(0, 6, 0)):  # 6 repeats file 1
        assert other[0] != one[0]
        assert other[1] != one[1]


def test_mask_kind_leaves_the_crops_unchanged(photos: Path) -> None:
    one, other = data(photos), data(photos)
    other.mask = RectangleMask(count=(3, 3))
    key = SampleKey(3, 2)
    first, second = one.dataset("train")[key], other.dataset("train")[key]
    assert torch.equal(first.image, second.image)
    assert not torch.equal(first.mask, second.mask)


def test_validation_is_the_same_before_and_after_training(photos: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(tmp_path, 2, num_sanity_val_steps=0).fit(recorder, data(photos))
    first, second = recorder.validated[:2], recorder.validated[2:]
    assert first == second
    alone = Recorder()
    trainer(tmp_path, 1).validate(alone, data(photos, seed=99), verbose=False)
    assert alone.validated == first


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_every_sample_and_wrap_to_equal_length(world_size: int) -> None:
    samplers = [TrainSampler(5, 2, 0, rank, world_size) for rank in range(world_size)]
    shares = [[key.number for key in sampler] for sampler in samplers]
    assert {len(share) for share in shares} == {len(samplers[0])}
    flat = [number for together in zip(*shares, strict=True) for number in together]
    assert sorted(flat[:10]) == list(range(10))
    assert flat[10:] == flat[: len(flat) - 10]


def test_every_pass_is_a_permutation_and_epochs_differ() -> None:
    sampler = TrainSampler(50, 2, seed=0)
    first = [key.number for key in sampler]
    assert sorted(first[:50]) == list(range(50))
    assert sorted(first[50:]) == list(range(50, 100))
    assert [number - 50 for number in first[50:]] != first[:50]
    sampler.set_epoch(1)
    second = list(sampler)
    assert [key.number for key in second] != first
    assert {key.epoch for key in second} == {1}


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_evaluate_every_sample_once(world_size: int) -> None:
    samplers = [EvaluationSampler(5, rank, world_size) for rank in range(world_size)]
    shares = [[key.number for key in sampler] for sampler in samplers]
    assert sorted(number for share in shares for number in share) == list(range(5))
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]
    assert all(shares)


def test_evaluation_needs_a_sample_for_each_rank() -> None:
    with pytest.raises(ValueError, match=r"2 validation or test images cannot be shared among 5"):
        EvaluationSampler(2, 0, 5)


def smooth(height: int, width: int) -> Image.Image:
    """A picture with detail at every scale but the finest, as photographs have it."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    return image.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [32, 60, 200])
def test_decoding_at_reduced_size_gives_nearly_the_same_picture(
    tmp_path: Path, orientation: int, size: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        smooth(400, 520).save(tmp_path / split / "a.jpg", quality=95, exif=exif)
    sample = data(tmp_path, size=size).dataset("val")[SampleKey(0, 0)]
    upright = load_image(tmp_path / "val" / "a.jpg")
    view = CenterCrop()((upright.height, upright.width), (size, size), np.random.default_rng(0))
    exact = np.asarray(show(upright, view, (size, size))).astype(float)
    error = np.asarray(sample.image).transpose(1, 2, 0) - exact
    assert 10 * np.log10(255**2 / max(np.mean(error**2), 1e-9)) > 38


def test_decoding_at_reduced_size_is_used_where_it_saves(tmp_path: Path) -> None:
    smooth(400, 520).save(tmp_path / "a.jpg")
    with open_image(tmp_path / "a.jpg") as image:
        assert decode_at_least(image, 0.3).size == (260, 200)
    with open_image(tmp_path / "a.jpg") as image:
        assert decode_at_least(image, 0.51).size == (520, 400)


def test_too_few_images_for_a_batch_names_the_settings(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"do not fill one batch of 16.*data\.batch_size"):
        data(photos, batch_size=16).train_dataloader()


def test_float_batches_span_minus_one_to_one() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    batch = to_float(Batch(image, torch.ones(1, 1, 1, 1, dtype=torch.bool), ["a"]))
    np.testing.assert_allclose(batch.image.flatten(), [-1, -0.6, 1], atol=1e-6)
    assert batch.mask.dtype == torch.float32
    assert batch.mask.item() == 1


def test_loading_needs_neither_lightning_nor_torchvision() -> None:
    code = "import sys, csa_inpaint.data.loading; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "csa_inpaint.data.loading" in loaded
    assert not loaded & {"pytorch_lightning", "torchvision", "hydra"}


def test_resuming_on_other_images_is_refused(photos: Path, tmp_path: Path) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [])]).fit(Recorder(), data(photos))
    (photos / "train" / "0.jpg").rename(photos / "train" / "9.jpg")
    checkpoint = tmp_path / "epoch0.ckpt"
    with pytest.raises(ValueError, match=r"data\.allow_other_data=true"):
        trainer(tmp_path, 2).fit(Recorder(), data(photos), ckpt_path=checkpoint)
    resumed = Recorder()
    trainer(tmp_path, 2).fit(resumed, data(photos, allow_other_data=True), ckpt_path=checkpoint)
    assert len(resumed.seen) == 5
    trainer(tmp_path, 1).validate(Recorder(), data(photos), ckpt_path=checkpoint, verbose=False)
