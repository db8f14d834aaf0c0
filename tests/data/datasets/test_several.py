from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from csa_inpaint.data import CenterMask, InpaintingDataModule, SeveralRoots
from csa_inpaint.data.samplers import TrainSampler

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def roots(tmp_path: Path, make_images: MakeImages) -> list[Path]:
    make_images(tmp_path / "few", ["train/a.jpg", "train/b.jpg", "val/c.jpg"])
    make_images(tmp_path / "many", [f"train/{index}.jpg" for index in range(8)] + ["val/8.jpg"])
    return [tmp_path / "few", tmp_path / "many"]


def test_several_roots_are_one_list(roots: list[Path]) -> None:
    files = SeveralRoots(roots).files(None, "train")
    assert [path.name for path in files] == ["a.jpg", "b.jpg", *(f"{i}.jpg" for i in range(8))]
    assert all(path.is_file() for path in files)
    assert files.pools == ()
    assert [path.name for path in SeveralRoots(roots).files(None, "val")] == ["c.jpg", "8.jpg"]


def test_weights_share_an_epoch(roots: list[Path]) -> None:
    files = SeveralRoots(roots, weights=[4, 1]).files(None, "train")
    sampler = TrainSampler(len(files), 2, seed=3, pools=files.pools)
    seen = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len({key.number for key in keys}) == len(keys) == len(sampler) == 20
        counts = Counter(key.number % len(files) for key in keys)
        assert [counts[0], counts[1]] == [8, 8]  # 16 of 20 come from two images
        assert sum(counts[index] for index in range(2, 10)) == 4
        seen += [index for index in counts if index >= 2]
        assert list(sampler) == keys
        first = [key.number % len(files) < 2 for key in keys]
        assert first != sorted(first, reverse=True)  # shuffled into each other
    assert len(set(seen)) > 6  # other images of the large folder in every epoch


def test_ranks_share_a_weighted_epoch(roots: list[Path]) -> None:
    files = SeveralRoots(roots, weights=[4, 1]).files(None, "train")
    whole = list(TrainSampler(10, 2, 3, pools=files.pools))
    parts = [list(TrainSampler(10, 2, 3, rank, 2, files.pools)) for rank in range(2)]
    assert [key for together in zip(*parts, strict=True) for key in together] == whole


def test_weights_reach_the_loader_and_the_digest(roots: list[Path]) -> None:
    def module(weights: list[float] | None) -> InpaintingDataModule:
        data = InpaintingDataModule(
            SeveralRoots(roots, weights), CenterMask(4), size=16, batch_size=5
        )
        data.setup("fit")
        return data

    paths = [path for batch in module([9, 1]).train_dataloader() for path in batch.path]
    assert sum("few" in path for path in paths) == 9
    digests = {module(weights).state_dict()["digest"] for weights in (None, [9, 1], [1, 9])}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"roots": []}, "expected a list"),
        ({"roots": "a"}, "expected a list"),
        ({"roots": ["a", "b"], "weights": [1]}, "positive number for each of the 2 roots"),
        ({"roots": ["a", "b"], "weights": [1, 0]}, "positive number for each"),
    ],
)
def test_several_roots_out_of_range_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeveralRoots(**settings)


def test_several_roots_refuse_one_root(roots: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"put it into data\.layout\.roots"):
        SeveralRoots(roots).files(roots[0], "train")
