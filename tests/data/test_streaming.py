"""Training on streams: shares of ranks and workers, order, resuming, bad files."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset import TarWriter

from csa_inpaint.data import CenterMask, RectangleMask, WebDatasetModule
from csa_inpaint.data.streaming import shuffled
from tests.data.test_loading import Recorder, SaveAt, Seen, digest, trainer

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def tars(tmp_path: Path, make_images: MakeImages) -> Path:
    """Four tar files of six images for training, one of two for validation."""
    (tmp_path / "tars").mkdir()
    paths = make_images(tmp_path / "files", [f"{index:02}.jpg" for index in range(26)])
    for number in range(5):
        name = "val.tar" if number == 4 else f"part-{number}.tar"
        with TarWriter(str(tmp_path / "tars" / name)) as tar:
            for path in paths[6 * number : 6 * number + 6]:
                tar.write({"__key__": path.stem, "jpg": path.read_bytes(), "cls": b"7"})
    return tmp_path / "tars"


def data(tars: Path, **settings: Any) -> WebDatasetModule:
    settings = {
        "urls": f"pipe:cat {tars}/part-{{0..3}}.tar",
        "val_urls": f"{tars}/val.tar",
        "images_per_epoch": 24,
        "mask": RectangleMask(),
        "size": 16,
        "batch_size": 2,
        "shuffle_buffer": 4,
        "pin_memory": False,
        "seed": 5,
        **settings,
    }
    return WebDatasetModule(**settings)


class OfRank:
    """The part of a Trainer that a data module asks."""

    def __init__(self, rank: int, world_size: int, epoch: int = 0) -> None:
        self.global_rank, self.world_size, self.current_epoch = rank, world_size, epoch


def epoch(
    tars: Path, rank: int = 0, world_size: int = 1, epoch: int = 0, **settings: Any
) -> list[Seen]:
    module = data(tars, **settings)
    module.trainer = OfRank(rank, world_size, epoch)
    loader = module.train_dataloader()
    batches = [(epoch, b.path, digest(b.mask), digest(b.image)) for b in loader]
    assert len(batches) == len(loader)
    return batches


def names(batches: list[Seen]) -> list[str]:
    return [path.rsplit("/", 1)[-1] for batch in batches for path in batch[1]]


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_ranks_and_workers_share_the_images_of_an_epoch(
    tars: Path, ranks: int, workers: int
) -> None:
    shares = [epoch(tars, rank, ranks, num_workers=workers) for rank in range(ranks)]
    assert {len(share) for share in shares} == {12 // ranks}
    everything = [name for share in shares for name in names(share)]
    assert sorted(everything) == [f"{index:02}.jpg" for index in range(24)]
    readers: dict[str, set[tuple[int, int]]] = {}
    for rank, share in enumerate(shares):
        for number, batch in enumerate(share):
            for path in batch[1]:
                readers.setdefault(path[: path.index(".tar")], set()).add(
                    (rank, number % max(1, workers))
                )
    assert {len(one) for one in readers.values()} == {1}, "a tar file was read twice"


def test_order_changes_with_seed_and_epoch_alone(tars: Path) -> None:
    first = epoch(tars)
    assert epoch(tars) == first
    assert names(first) != sorted(names(first))
    for other in (epoch(tars, epoch=1), epoch(tars, seed=6)):
        assert names(other) != names(first)
        assert sorted(names(other)) == sorted(names(first))


def test_epoch_may_be_shorter_or_longer_than_the_streams(tars: Path) -> None:
    assert len(set(names(epoch(tars, images_per_epoch=10)))) == 10
    counts = Counter(names(epoch(tars, images_per_epoch=60)))
    assert sum(counts.values()) == 60
    assert set(counts.values()) == {2, 3}


def test_masks_differ_where_an_image_comes_again(tars: Path) -> None:
    masks = [batch[2] for batch in epoch(tars, images_per_epoch=48, batch_size=1)]
    assert len(set(masks)) > 40


@pytest.mark.parametrize(("policy", "workers"), [("error", 0), ("error", 2), ("skip", 2)])
def test_resumed_training_goes_on_bit_for_bit(
    tars: Path, tmp_path: Path, policy: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    if policy == "skip":
        with TarWriter(str(tars / "part-3.tar")) as tar:
            tar.write({"__key__": "bad", "jpg": b"no image"})
            for path in sorted((tars.parent / "files").iterdir())[18:24]:
                tar.write({"__key__": path.stem, "jpg": path.read_bytes()})

    def module() -> WebDatasetModule:
        return data(tars, num_workers=workers, on_bad_file=policy, max_bad_share=0.5)

    whole, saved_at = Recorder(), [5, 12, 15]
    trainer(tmp_path, 2, callbacks=[SaveAt(tmp_path, saved_at)]).fit(whole, module())
    assert len(whole.seen) == 24
    assert len({seen[2:] for seen in whole.seen}) == 24
    for step in saved_at:
        resumed = Recorder()
        with caplog.at_level(logging.INFO):
            caplog.clear()
            trainer(tmp_path, 2).fit(resumed, module(), ckpt_path=tmp_path / f"step{step}.ckpt")
        assert resumed.seen == whole.seen[step:], step
        assert (f"the {step % 12} batches" in caplog.text) == (step != 12)
    assert "a resumed run goes on bit for bit" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 2}, "workers was 1, is 2"),
        ({"shuffle_buffer": 5}, "shuffle_buffer was 4, is 5"),
        ({"urls": "pipe:cat {tars}/part-{{0..2}}.tar"}, r"data\.allow_other_data=true"),
    ],
)
def test_resuming_within_an_epoch_refuses_another_order(
    tars: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [3])]).fit(Recorder(), data(tars))
    settings = {k: v.format(tars=tars) if k == "urls" else v for k, v in settings.items()}
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, 1).fit(
            Recorder(), data(tars, **settings), ckpt_path=tmp_path / "step3.ckpt"
        )


def test_resuming_after_an_epoch_allows_other_workers(tars: Path, tmp_path: Path) -> None:
    trainer(tmp_path, 1, callbacks=[SaveAt(tmp_path, [])]).fit(Recorder(), data(tars))
    resumed = Recorder()
    trainer(tmp_path, 2).fit(resumed, data(tars, num_workers=2), ckpt_path=tmp_path / "epoch0.ckpt")
    assert [seen[0] for seen in resumed.seen] == [1] * 12


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_stop_or_are_passed_over_and_named(tars: Path, workers: int) -> None:
    with TarWriter(str(tars / "part-1.tar")) as tar:
        tar.write({"__key__": "bad", "jpg": b"no image"})
    url = f"pipe:cat {tars}/part-1.tar"
    with pytest.raises(ValueError, match=rf"{url}/bad\.jpg is not an image"):
        epoch(tars, num_workers=workers)
    module = data(tars, num_workers=workers, on_bad_file="skip", max_bad_share=0.1)
    assert len(list(module.train_dataloader())) == 12
    assert list(module.bad_files) == [f"{url}/bad.jpg"]
    with pytest.raises(ValueError, match=r"1 of 24 training images are bad"):
        list(data(tars, on_bad_file="skip", max_bad_share=0).train_dataloader())


@pytest.mark.parametrize("workers", [0, 1])
def test_failing_stream_stops_a_training(tars: Path, tmp_path: Path, workers: int) -> None:
    urls = [f"pipe:cat {tars}/part-0.tar", f"pipe:cat {tars}/part-1.tar; exit 3"]
    with pytest.raises(OSError, match=r"pipe:cat .*part-1.* failed with exit status 3"):
        trainer(tmp_path, 1).fit(Recorder(), data(tars, urls=urls, num_workers=workers))
    with TarWriter(str(tars / "labels.tar")) as tar:
        tar.write({"__key__": "0", "cls": b"7"})
    with pytest.raises(ValueError, match=r"no image in the tar files of data\.urls, pipe:cat"):
        epoch(tars, urls=f"pipe:cat {tars}/labels.tar")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images_per_epoch": None}, r"data\.images_per_epoch=None: a stream does not tell"),
        ({"urls": "x.tar"}, r"data\.images_per_epoch=24: .* leave it out"),
        ({"val_urls": None}, r"data\.val_urls=None: validation looks at the same images"),
        ({"val_urls": "s3://b/val.tar"}, r"data\.val_urls=s3://b/val\.tar: .*Copy the tar files"),
        ({"val_fraction": 0.1}, r"val_fraction=0\.1: no share of a stream"),
        ({"urls": ["pipe:cat x", "y.tar"]}, r"data\.urls=y\.tar is a file among streams"),
        ({"urls": "https://host/*.tar"}, r"https://host/\*\.tar: a stream has no wildcards"),
        ({"repeats": 2}, r"data\.repeats=2 has no effect on streams"),
        ({"shuffle_buffer": 0}, r"data\.shuffle_buffer=0: expected 1 or more"),
    ],
)
def test_settings_that_do_not_suit_are_refused(
    tars: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        data(tars, **settings)


def test_too_few_streams_or_images_are_refused(tars: Path) -> None:
    with pytest.raises(ValueError, match=r"names 4 streams, too few for 1 ranks with 5 workers"):
        epoch(tars, num_workers=5)
    with pytest.raises(ValueError, match=r"images_per_epoch=24 on 1 ranks .* batch of 25"):
        epoch(tars, batch_size=25)


def test_other_commands_are_told_that_streams_have_no_places(tars: Path) -> None:
    module = data(tars)
    with pytest.raises(ValueError, match=r"pipe:cat .* is a stream: .*Copy the tar file"):
        module.dataset("train")
    assert len(module.dataset("val").files) == 2


def test_shuffling_gives_every_item_once_within_the_reach_of_the_buffer() -> None:
    order = list(shuffled(range(100), 10, np.random.default_rng(0)))
    assert sorted(order) == list(range(100))
    assert order != list(range(100))
    assert all(item <= place + 10 for place, item in enumerate(order))
    assert list(shuffled(range(5), 1, np.random.default_rng(0))) == list(range(5))


def test_training_prepares_its_masks(tars: Path) -> None:
    module = data(tars, mask=CenterMask(20))
    with pytest.raises(ValueError, match="size"):
        module.setup("fit")
