"""Images in shards: the same samples as from files, shared between processes, and damage named."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from webdataset import WebDataset

from csa_inpaint.check_data import check
from csa_inpaint.data import CenterMask, ImageFolder, InpaintingDataModule, ShardError, Shards
from csa_inpaint.data.datasets.shards import read_index
from csa_inpaint.make_shards import make_shards
from tests.data.test_loading import Recorder, SaveAt, trainer

MakeImages = Callable[..., list[Path]]

LONG = 120 * "b" + ".c/d.e.png"
NAMES = ["a/arch/1.jpg", "a/arch/2.JPG", LONG, "f.jpeg", "g.jpg", "z.jpg", "ü.jpg"]


@pytest.fixture
def root(tmp_path: Path, make_images: MakeImages) -> Path:
    make_images(tmp_path / "files/train", NAMES)
    make_images(tmp_path / "files/val", ["1.jpg", "2.jpg"])
    return tmp_path / "files"


@pytest.fixture
def shards(root: Path) -> Path:
    """The same images in three shards."""
    output = root.parent / "shards"
    for split in ("train", "val"):
        make_shards(ImageFolder().files(root, split), split, output, 3, workers=1)
    return output


def data(layout: object, root: Path, **settings: object) -> InpaintingDataModule:
    settings = {"size": 16, "batch_size": 2, "seed": 5, **settings}
    return InpaintingDataModule(layout, CenterMask(8), root, **settings)


def spoil(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 255
    path.write_bytes(content)


def test_shards_hold_the_original_bytes_in_order(root: Path, shards: Path) -> None:
    before, after = ImageFolder().files(root, "train"), Shards().files(shards, "train")
    assert list(after.names()) == list(before.names()) == NAMES
    assert [after.read(i) for i in range(7)] == [path.read_bytes() for path in before]
    assert sorted(path.name for path in shards.iterdir()) == [
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
        "train.npz",
        "val-000000.tar",
        "val.npz",
    ]
    assert after[4] == shards / "train-000001.tar" / "g.jpg"


def test_samples_are_those_of_the_files(root: Path, shards: Path) -> None:
    plain, sharded = data(ImageFolder(), root), data(Shards(), shards, num_workers=2)
    for name in ("train_dataloader", "val_dataloader"):
        one, other = list(getattr(plain, name)()), list(getattr(sharded, name)())
        assert len(one) == len(other)
        for expected, batch in zip(one, other, strict=True):
            assert torch.equal(expected.image, batch.image)
            assert torch.equal(expected.mask, batch.mask)
            assert [Path(p).name for p in expected.path] == [Path(p).name for p in batch.path]


def test_webdataset_reads_the_shards(root: Path, shards: Path) -> None:
    paths = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    samples = list(WebDataset(paths, shardshuffle=False))
    content = [value for sample in samples for key, value in sample.items() if key[0] != "_"]
    assert content == [(root / "train" / name).read_bytes() for name in NAMES]


def test_selections_and_copies_read_their_own_images(shards: Path) -> None:
    files = Shards().files(shards, "train")
    some = pickle.loads(pickle.dumps(files.select([6, 2])))
    assert [some.read(i) for i in range(2)] == [files.read(6), files.read(2)]
    assert some[0].name == "ü.jpg"
    assert files[1:3].read(1) == files.read(2)


def test_shards_of_equal_names_share_no_files(root: Path, tmp_path: Path) -> None:
    files = ImageFolder().files(root, "train")
    for split in ("train", "val"):
        make_shards(files, split, tmp_path / "both", 3, workers=1)
    data(Shards(), tmp_path / "both").setup("fit")


def test_index_takes_little_memory(shards: Path, tmp_path: Path) -> None:
    files = Shards().files(shards, "train")
    assert files.nbytes() == 7 * (20 + 8) + sum(len(name.encode()) for name in NAMES)


class WriteSeen(Callback):
    """Writes what each rank saw, where the parent process can read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, module: Recorder) -> None:
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(module.seen))


@pytest.mark.slow
def test_two_processes_of_two_workers_share_an_epoch_and_resume_within_it(
    shards: Path, tmp_path: Path
) -> None:
    def run(callbacks: list[Callback], **settings: object) -> list[list[list[object]]]:
        spawned = trainer(
            tmp_path,
            2,
            strategy="ddp_spawn",
            devices=2,
            limit_val_batches=0,
            callbacks=[WriteSeen(tmp_path), *callbacks],
        )
        module = data(Shards(), shards, batch_size=2, num_workers=2, repeats=4)
        spawned.fit(Recorder(), module, **settings)
        return [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]

    ranks = run([SaveAt(tmp_path, [3])])
    assert [len(seen) for seen in ranks] == [14, 14]
    orders = []
    for epoch in range(2):
        both = [seen for rank in ranks for seen in rank if seen[0] == epoch]
        orders.append([Path(path).name for seen in both for path in seen[1]])
        # Every image as often as data.repeats says, each time another view of it.
        assert sorted(orders[-1]) == sorted(4 * [Path(name).name for name in NAMES])
        assert len({seen[3] for seen in both}) == len(both)
    assert orders[0] != orders[1]
    resumed = run([], ckpt_path=tmp_path / "step3.ckpt")
    assert resumed == [seen[3:] for seen in ranks]


def test_truncated_shard_is_named_before_training(shards: Path) -> None:
    os.truncate(shards / "train-000001.tar", 700)
    with pytest.raises(ShardError, match=r"train-000001\.tar has 700 bytes, \d+ when it was made"):
        data(Shards(), shards).setup("fit")


def test_missing_shard_is_named_before_training(shards: Path) -> None:
    (shards / "train-000002.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000002\.tar is missing: copy it again"):
        data(Shards(), shards).setup("fit")


@pytest.mark.parametrize("on_bad_file", ["error", "skip"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_shard_is_named_and_never_passed_over(
    shards: Path, on_bad_file: str, num_workers: int
) -> None:
    offset = int(read_index(shards / "train.npz").places[4]["offset"])
    spoil(shards / "train-000001.tar", offset + 300)
    module = data(Shards(), shards, batch_size=7, on_bad_file=on_bad_file, num_workers=num_workers)
    with pytest.raises(ValueError, match=r"train-000001\.tar is damaged: g\.jpg has another check"):
        next(iter(module.train_dataloader()))


def test_shard_that_shrinks_or_vanishes_during_training_is_named(shards: Path) -> None:
    files = Shards().files(shards, "train")
    files.read(4)
    os.truncate(shards / "train-000001.tar", 700)
    with pytest.raises(ShardError, match=r"train-000001\.tar is truncated: it ends within g\.jpg"):
        files.read(4)
    (shards / "train-000002.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000002\.tar cannot be read"):
        files.read(6)


def test_bad_image_in_a_sound_shard_is_an_ordinary_bad_file(
    root: Path, shards: Path, tmp_path: Path
) -> None:
    index = shards / "train.npz"
    with np.load(index) as arrays:
        kept = dict(arrays)
    kept["places"]["length"][0] = 0  # as though an empty file had been packed
    kept["places"]["checksum"][0] = 0
    np.savez(index, **kept)
    with pytest.raises(ValueError, match=r"train-000000\.tar/a/arch/1\.jpg is empty"):
        Shards().files(shards, "train").open(0)


def test_damaged_index_is_named(shards: Path) -> None:
    os.truncate(shards / "train.npz", 500)
    with pytest.raises(ShardError, match=r"the index .*train\.npz cannot be read"):
        Shards().files(shards, "train")
    shutil.copy(shards / "val-000000.tar", shards / "train.npz")
    with pytest.raises(ShardError, match=r"the index .*train\.npz cannot be read"):
        Shards().files(shards, "train")


def test_wrong_folder_says_what_is_expected(root: Path, shards: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no train\.npz: it should be the folder"):
        Shards().files(root, "train")
    with pytest.raises(ValueError, match="has no test split: choose one of train, val"):
        Shards().files(shards, "test")
    (shards / "train.npz").unlink()
    (shards / "val.npz").unlink()
    with pytest.raises(ShardError, match=r"make_shards was interrupted there"):
        Shards().files(shards, "train")
    for path in shards.glob("*.tar"):
        path.rename(path.with_name(f"others-{path.name}"))
    with pytest.raises(ShardError, match=r"did not write, others-train-000000\.tar .*data\.urls="):
        Shards().files(shards, "train")


def test_check_data_reads_shards(shards: Path) -> None:
    module = data(Shards({"train": 8}), shards)
    report = check(module, shards.parent, workers=1, samples=2, masks=2)
    assert not report.errors
    assert report.remarks == ["train has 7 images, officially there are 8"]
    spoil(shards / "train-000001.tar", 600)
    (error,) = check(module, shards.parent, workers=1, samples=2, masks=2).errors
    assert "train-000001.tar is damaged: f.jpeg" in error
