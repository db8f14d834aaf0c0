"""Check a data set: ``python -m csa_inpaint.check_data data=… mask=…``; ``--help`` tells more."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from torchvision.utils import save_image

from csa_inpaint.cli.entry import command
from csa_inpaint.cli.parallel import in_parallel
from csa_inpaint.data import FolderMask, HoleRatioMask, InpaintingDataModule, MaskGenerator
from csa_inpaint.data.checking import ImageCheck, check_image
from csa_inpaint.data.datamodule import MOST_BAD
from csa_inpaint.data.datasets.layout import Split
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.loading import InpaintingDataset, check_resolution
from csa_inpaint.data.masks import MixtureMask, Polarity, SoftMaskWarning, load_mask
from csa_inpaint.data.samplers import SampleKey

_LISTED = 10  # of many files with the same fault, these are named
_TOGETHER = 64  # files that a process is given at a time


class MaskCheck(NamedTuple):
    """What there is to know about a mask file."""

    problem: str | None
    soft: bool
    ratio: float
    size: tuple[int, int]


@dataclass
class Report:
    """Lines to print, and what is wrong: `errors` stop a training, `remarks` do not."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The whole report."""
        parts = [*self.lines]
        parts += ["", *(f"remark: {remark}" for remark in self.remarks)] if self.remarks else []
        parts += ["", *(f"ERROR: {error}" for error in self.errors)] if self.errors else []
        verdict = "training would fail" if self.errors else "nothing that would stop a training"
        return "\n".join([*parts, "", verdict])


def check_images(files: FileList) -> list[ImageCheck]:
    """Read image files to their end."""
    return [check_image(files, index) for index in range(len(files))]


def check_masks(job: tuple[FileList, Polarity]) -> list[MaskCheck]:
    """Read mask files of the given polarity."""
    files, polarity = job
    return [check_mask(path, polarity) for path in files]


def check_mask(path: Path, polarity: Polarity) -> MaskCheck:
    """Read a mask file of the given polarity."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mask = load_mask(path, polarity)
        except (OSError, ValueError) as error:
            return MaskCheck(str(error), False, 0.0, (0, 0))
    soft = any(issubclass(warning.category, SoftMaskWarning) for warning in caught)
    return MaskCheck(None, soft, float(mask.mean()), (mask.shape[0], mask.shape[1]))


def check(
    data: InpaintingDataModule, folder: Path, workers: int | None, samples: int, masks: int
) -> Report:
    """Look through the images of all splits, the mask files and the masks as they are drawn.

    Args:
        data: the data module of the training.
        folder: where the picture sheet is written.
        workers: processes that read files; None for one on each core.
        samples: pictures on the sheet.
        masks: masks that are drawn for the histogram of hole ratios.
    """
    report = Report([f"{type(data.layout).__name__}, root {data.root}"])
    datasets: dict[Split, InpaintingDataset] = {}
    splits: tuple[Split, ...] = ("train", "val", "test")
    for split in splits:
        if split == "test" and data.test_split != "test":
            continue
        try:
            datasets[split] = data.dataset(split)
        except (OSError, ValueError) as error:
            report.errors.append(f"{split}: {error}")
    seen: dict[bytes, tuple[str, str]] = {}
    for split, dataset in datasets.items():
        results = in_parallel(check_images, _in_parts(dataset.files), workers, split)
        _check_split(report, data, split, dataset, chain.from_iterable(results), seen)
    for generator in _folders(data.mask, data.val_mask):
        jobs = [(part, generator.polarity) for part in _in_parts(generator.files)]
        masks_read = in_parallel(check_masks, jobs, workers, "mask files")
        _check_mask_files(report, generator, list(chain.from_iterable(masks_read)), data.size)
    if "train" in datasets and not report.errors:
        _check_training(report, data, folder, samples, masks)
    return report


def _check_split(
    report: Report,
    data: InpaintingDataModule,
    split: Split,
    dataset: InpaintingDataset,
    results: Iterable[ImageCheck],
    seen: dict[bytes, tuple[str, str]],
) -> None:
    official = data.layout.counts.get(split)
    count = len(dataset.files)
    report.lines.append(f"\n{split}: {count} images in {dataset.files.root}")
    if official is not None and official != count:
        report.remarks.append(f"{split} has {count} images, officially there are {official}")
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    problems, small, twins = [], [], []
    rng = np.random.default_rng(0)
    for result in results:
        if result.problem is not None:
            problems.append(result.problem)
            continue
        sizes[result.size] += 1
        modes[result.mode] += 1
        try:
            view = dataset.transform(result.size, dataset.size, rng)
            if not dataset.upscale_small:
                check_resolution(Path(result.path), result.size, view, dataset.size)
        except ValueError as error:
            small.append(str(error))
        first_split, first_path = seen.setdefault(result.digest, (split, result.path))
        if first_split != split:
            twins.append(f"{result.path} is {first_path} of {first_split}")
    if sizes:
        heights, widths = zip(*sizes, strict=True)
        report.lines += [
            f"  sizes: {_common(sizes)}",
            f"  height {min(heights)} to {max(heights)}, width {min(widths)} to {max(widths)}",
            f"  colour: {', '.join(f'{mode} {number}' for mode, number in modes.most_common())}",
        ]
    passed_over = split == "train" and data.on_bad_file == "skip"
    few = len(problems) + len(small) <= MOST_BAD * count
    into = report.remarks if passed_over and few else report.errors
    _name_some(into, f"{split}: unreadable", problems)
    _name_some(into, f"{split}: too small", small)
    _name_some(report.remarks, f"{split}: the same file in two splits", twins)


def _check_mask_files(
    report: Report, generator: FolderMask, results: list[MaskCheck], size: tuple[int, int]
) -> None:
    good = [result for result in results if result.problem is None]
    sizes = Counter(result.size for result in good)
    report.lines.append(f"\nmask files: {len(results)} in {generator.files.root}")
    if good:
        ratios = [result.ratio for result in good]
        report.lines += [
            f"  sizes: {_common(sizes)}",
            f"  hole ({generator.polarity}) of {np.mean(ratios):.0%} of the picture on average",
            *_histogram(ratios),
        ]
        if np.mean(ratios) > 0.6:
            other = "black" if generator.polarity == "white" else "white"
            report.remarks.append(
                f"the holes of the masks in {generator.files.root} are so large that polarity="
                f"{generator.polarity} is probably the wrong one: set mask.polarity={other}"
            )
        others = sum(number for shape, number in sizes.items() if shape != size)
        if others and not generator.resize:
            report.errors.append(
                f"{others} of {len(results)} mask files do not have the {size[0]}x{size[1]} pixels "
                "of data.size: set mask.resize=true, or give masks of that size"
            )
    soft = sum(result.soft for result in good)
    if soft:
        report.remarks.append(
            f"{soft} of {len(results)} mask files have soft edges, which are thresholded at half"
        )
    problems = [result.problem for result in results if result.problem is not None]
    _name_some(report.errors, "mask files", problems)


def _check_training(
    report: Report, data: InpaintingDataModule, folder: Path, samples: int, masks: int
) -> None:
    dataset = data.dataset("train")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SoftMaskWarning)  # counted above, file by file
            ratios = [
                float(dataset.mask(*dataset.size, np.random.default_rng([data.seed, i])).mean())
                for i in range(masks)
            ]
            # From all over the set: neighbours in a sorted list are often of one kind.
            numbers = [i * len(dataset.files) // samples for i in range(samples)]
            shown = [dataset[SampleKey(number, 0)] for number in numbers]
        data.train_dataloader()
    except (OSError, ValueError) as error:
        report.errors.append(f"train: {error}")
        return
    height, width = dataset.size
    report.lines += [f"\nmasks as drawn for {height}x{width}: {masks}", *_histogram(ratios)]
    if not shown:
        return
    pictures = torch.stack([sample.image / 255 for sample in shown])
    holes = torch.stack([sample.mask for sample in shown])
    sheet = folder / "samples.png"
    # White holes, and beside each picture the whole of it.
    pairs = torch.stack([pictures.masked_fill(holes, 1.0), pictures], dim=1).flatten(0, 1)
    save_image(pairs, sheet, nrow=8, pad_value=0.5)
    report.lines.append(f"\n{samples} samples as the model sees them: {sheet}")


def _folders(*generators: MaskGenerator) -> Iterator[FolderMask]:
    """The mask folders that generators read from, each once."""
    pending, done = list(generators), set()
    while pending:
        generator = pending.pop()
        if id(generator) in done:
            continue
        done.add(id(generator))
        if isinstance(generator, FolderMask):
            yield generator
        elif isinstance(generator, HoleRatioMask):
            pending.append(generator.mask)
        elif isinstance(generator, MixtureMask):
            pending += generator.kinds.values()


def _in_parts(files: FileList) -> list[FileList]:
    return [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]


def _common(sizes: Counter[tuple[int, int]]) -> str:
    named = [f"{height}x{width} ({count})" for (height, width), count in sizes.most_common(5)]
    rest = len(sizes) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "") + " (height x width)"


def _histogram(ratios: list[float]) -> list[str]:
    counts, edges = np.histogram(ratios, bins=10, range=(0, 1))
    longest = max(int(counts.max()), 1)
    return [
        f"  {low:3.0%} to {low + 0.1:4.0%} of the picture {count:7d} "
        f"{'#' * (40 * count // longest)}"
        for low, count in zip(edges[:-1].tolist(), counts.tolist(), strict=True)
        if count
    ]


def _name_some(into: list[str], what: str, messages: list[str]) -> None:
    if messages:
        more = len(messages) - _LISTED
        lines = [*messages[:_LISTED], *([f"and {more} more"] if more > 0 else [])]
        into.append(f"{what}: {len(messages)} files\n  " + "\n  ".join(lines))


@command("check_data")
def main(cfg: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    data: InpaintingDataModule = instantiate(cfg.data, _convert_="all")
    report = check(data, folder, cfg.workers, cfg.samples, cfg.masks)
    (folder / "report.txt").write_text(report.text() + "\n", encoding="utf-8")
    print(report.text())
    print(f"This report: {folder / 'report.txt'}")
    if report.errors:
        sys.exit(1)


if __name__ == "__main__":
    main()
