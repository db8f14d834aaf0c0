"""Fill, score, write down: the module that a Trainer runs for an evaluation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.utils import save_image

from csa_inpaint.data.transforms import to_float
from csa_inpaint.evaluation.metrics import image_scores
from csa_inpaint.evaluation.perceptual import LPIPS, FeatureNetwork, hole_crop
from csa_inpaint.evaluation.records import TRUTH, Journal, Record, encode
from csa_inpaint.evaluation.samples import Numbered, NumberedSamples, Source, join
from csa_inpaint.evaluation.sheets import MASK, picture_file
from csa_inpaint.types import Batch, Inpainting

MODEL_METHODS = ("rough", "refined", "composite")
Filling = Callable[[Batch], Tensor]
"""Fills holes: takes pictures whose holes are grey and masks; `path` holds the samples' names."""


class Evaluator(pl.LightningModule):
    """Score the fillings of a model and of others on numbered samples.

    Every method gets the pictures with their holes painted grey: what lies under a mask cannot
    reach it. Scores of each sample go to the journal, results to ``images/METHOD/NAME.png``.

    Args:
        model: returns an ``Inpainting``; None for none.
        others: by name, whatever else fills the holes.
        source: the pictures and masks.
        numbers: of the samples to score.
        pictured: of the samples whose results are written as pictures.
        lpips: by score.
        networks: whose features of the holes' crops are kept for KID, by score.
        journal: gets the records.
        folder: of the evaluation, which gets the pictures.
        batch_size: samples at a time.
        num_workers: processes that load data.
    """

    def __init__(
        self,
        model: nn.Module | None,
        others: Mapping[str, Filling],
        source: Source,
        numbers: Sequence[int],
        pictured: Sequence[int],
        lpips: Mapping[str, LPIPS],
        networks: Mapping[str, FeatureNetwork],
        journal: Journal,
        folder: Path,
        batch_size: int,
        num_workers: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.others = dict(others)
        self.source = source
        self.numbers = numbers
        self.pictured = frozenset(pictured)
        self.lpips = nn.ModuleDict(lpips)
        self.networks = dict(networks)
        self.registered = nn.ModuleDict(networks)  # so that they move to the device
        self.journal = journal
        self.folder = folder
        self.batch_size = batch_size
        self.num_workers = num_workers
        # One process of several may have nothing left to do.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def test_dataloader(self) -> DataLoader[Any]:
        """This process's share of the samples: none is scored twice."""
        share = self.numbers[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(
            NumberedSamples(self.source, share),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=join,
        )

    def test_step(self, given: Numbered, batch_idx: int) -> None:
        batch = to_float(given.batch)
        predictions = dict(self.predictions(batch._replace(path=given.names)))
        # A mixed precision of the Trainer's is for the model; its judges compute in full.
        with torch.autocast(self.device.type, enabled=False):
            scores = {
                method: self.scores(prediction, batch) for method, prediction in predictions.items()
            }
            crops = {TRUTH: batch.image, **predictions}
            features = {
                score: {
                    method: [
                        encode(network.embed(image[None, :, *hole_crop(mask)])[0])
                        for image, mask in zip(images, given.batch.mask, strict=True)
                    ]
                    for method, images in crops.items()
                }
                for score, network in self.networks.items()
            }
        records = [
            Record(
                number=number,
                name=given.names[row],
                image=batch.path[row],
                digest=given.digests[row],
                hole_ratio=given.batch.mask[row].double().mean().item(),
                scores=_row(scores, row, lambda value: value.item()),
                features=_row(features, row, lambda text: text),
            )
            for row, number in enumerate(given.numbers)
        ]
        images = {**crops, MASK: 2 * batch.mask - 1}
        for row, number in enumerate(given.numbers):
            if number in self.pictured:
                self._write_pictures(given.names[row], {k: v[row] for k, v in images.items()})
        # Last, so that a sample with a record has its pictures too.
        self.journal.append(records, self.global_rank)

    def predictions(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Each method's name and pictures, (B, 3, H, W); all but the model's are composites."""
        hole = batch.mask > 0.5
        hidden = batch._replace(image=torch.where(hole, 0.0, batch.image))
        if self.model is not None:
            out: Inpainting = self.model(hidden.image, hidden.mask)
            yield from zip(MODEL_METHODS, (out.rough, out.refined, out.composite), strict=True)
        for name, fill in self.others.items():
            yield name, torch.where(hole, fill(hidden).to(batch.image), batch.image)

    def scores(self, prediction: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The scores of each picture: (B,) each."""
        # float64: the sums over a picture then round less than the networks do.
        values = image_scores(*(_exact(x) for x in (prediction, batch.image, batch.mask)))
        for score, distance in self.lpips.items():
            values[score] = distance(prediction, batch.image)
        return values

    def _write_pictures(self, name: str, images: Mapping[str, Tensor]) -> None:
        for method, image in images.items():
            path = picture_file(self.folder, method, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image((image.float().clamp(-1, 1) + 1) / 2, path)


def _row(
    values: Mapping[str, Mapping[str, Any]], row: int, convert: Callable[[Any], Any]
) -> dict[str, dict[str, Any]]:
    """What nested lists of a batch hold for one of its samples."""
    return {
        outer: {inner: convert(listed[row]) for inner, listed in below.items()}
        for outer, below in values.items()
    }


def _exact(values: Tensor) -> Tensor:
    """The values in float64, where they are unless that device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
