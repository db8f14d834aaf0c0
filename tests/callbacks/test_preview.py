"""Which held-out images the preview shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from csa_inpaint.callbacks import Preview
from csa_inpaint.callbacks.preview import spread
from csa_inpaint.types import Batch

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("count", "available", "positions"),
    [
        (10, 10, list(range(10))),
        (10, 3, [0, 1, 2]),
        (3, 101, [0, 50, 100]),
        (4, 11, [0, 3, 7, 10]),
        (1, 50, [0]),
    ],
)
def test_spread_reaches_from_end_to_end(count: int, available: int, positions: list[int]) -> None:
    assert spread(count, available) == positions


class Numbered(torch.utils.data.Dataset[Batch]):
    """Images of one grey value each; the value tells the number of the image."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> Batch:
        image = torch.full((3, 16, 16), index / 10 * 2 - 1)
        return Batch(image, (torch.arange(256).view(1, 16, 16) < 8).float(), [str(index)])


def collate(samples: list[Batch]) -> Batch:
    images, masks = (torch.stack([sample[i] for sample in samples]) for i in (0, 1))
    return Batch(images, masks, [path for sample in samples for path in sample.path])


@pytest.mark.parametrize("stage", ["validate", "test"])
@pytest.mark.parametrize(
    ("limit", "shown"), [(1.0, [0, 3, 7, 10]), (2, [0, 2, 5, 7])], ids=["whole", "limited"]
)
def test_preview_is_spread_over_the_set(
    stage: str,
    limit: float,
    shown: list[int],
    make_module: Make,
    make_trainer: Make,
    tmp_path: Path,
) -> None:
    loader = DataLoader(Numbered(), batch_size=4, collate_fn=collate)
    trainer = make_trainer(
        [Preview(tmp_path, images=4)], limit_val_batches=limit, limit_test_batches=limit
    )
    getattr(trainer, stage)(make_module(), loader, verbose=False)
    with Image.open(tmp_path / "epoch_0000.png") as picture:
        truth = picture.convert("L").crop((4 * 18 + 2, 0, 5 * 18, picture.height))
    greys = [truth.getpixel((8, 18 * row + 10)) for row in range(4)]
    assert [round(grey / 255 * 10) for grey in greys] == shown
