"""Check a data set: ``python -m csa_inpaint.check_data data=… mask=…``; ``--help`` tells more."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("check_data")  # the imports below take seconds

import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFont

from csa_inpaint.cli.entry import command
from csa_inpaint.cli.parallel import in_parallel
from csa_inpaint.data import FolderMask, InpaintingDataModule
from csa_inpaint.data.array_cache import cache_file
from csa_inpaint.data.checking import ImageCheck, check_image, mask_folders, most_bad, printable
from csa_inpaint.data.datasets.layout import Split, StreamError
from csa_inpaint.data.listing import CACHE_FROM, FileList
from csa_inpaint.data.loading import InpaintingDataset, Sample, check_resolution
from csa_inpaint.data.masks import Polarity, SoftMaskWarning, load_mask
from csa_inpaint.data.samplers import SampleKey

_LISTED = 10  # of many files with the same fault, these are named
_TOGETHER = 64  # files that a process is given at a time
_HOLE = (255, 0, 255)  # magenta: no sky and no snow has it
_GAP = 2  # pixels between the pictures of a sheet
_COLUMNS = 4  # pairs of pictures side by side

_log = logging.getLogger(__name__)


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
        return printable("\n".join([*parts, "", verdict]))


class ImageJob(NamedTuple):
    """Image files that a process is given at a time."""

    files: FileList
    max_pixels: int


def check_images(job: ImageJob) -> list[ImageCheck]:
    """Read image files to their end."""
    return [check_image(job.files, index, job.max_pixels) for index in range(len(job.files))]


def read_images(
    files: FileList, max_pixels: int, workers: int | None, title: str
) -> Iterator[ImageCheck]:
    """Read all image files to their end, from where an interrupted check of them left off.

    What was read of a long list is noted in the user's cache folder until all is.
    """
    jobs = [ImageJob(part, max_pixels) for part in _in_parts(files)]
    note = _open_note(files, max_pixels) if len(files) >= CACHE_FROM else None
    if note is None:
        yield from chain.from_iterable(in_parallel(check_images, jobs, workers, title))
        return
    with note:
        done = 0
        for results in _noted(note):
            yield from results
            done += 1
        if done:
            print(f"{title}: {done * _TOGETHER} images were read by a check that was interrupted")
        for results in in_parallel(check_images, jobs[done:], workers, title):
            note.write(json.dumps(results) + "\n")
            yield from results
    Path(note.name).unlink()


def _open_note(files: FileList, max_pixels: int) -> TextIO | None:
    key = f"{files.root.absolute()} {files.digest()} {max_pixels} {_TOGETHER}"
    path = cache_file("check", key.encode("utf-8", "surrogateescape")).with_suffix(".jsonl")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="ascii")
    except OSError as error:
        _log.warning("%s could not be written (%s): an interrupted check starts anew", path, error)
        return None


def _noted(note: TextIO) -> Iterator[list[ImageCheck]]:
    """The results in a note, which is then ready for more."""
    note.seek(0)
    end = 0
    while line := note.readline():
        try:
            yield [_check_of(*values) for values in json.loads(line)]
        except ValueError:  # the check was killed while it wrote this line
            break
        end = note.tell()
    note.seek(end)
    note.truncate()


def _check_of(path: str, problem: str | None, size: list[int], *rest: Any) -> ImageCheck:
    height, width = size  # JSON has no tuples
    return ImageCheck(path, problem, (height, width), *rest)


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
    datasets = _list_splits(report, data)
    seen: dict[str, tuple[str, str]] = {}
    for split, dataset in datasets.items():
        results = read_images(dataset.files, data.max_pixels, workers, split)
        _check_split(report, data, split, dataset, results, seen)
    for generator in mask_folders(data.mask, data.val_mask):
        jobs = [(part, generator.polarity) for part in _in_parts(generator.files)]
        masks_read = in_parallel(check_masks, jobs, workers, "mask files")
        _check_mask_files(report, data, generator, list(chain.from_iterable(masks_read)))
    if {"train", "val"} <= datasets.keys() and not report.errors:
        _check_training(report, data, folder, samples, masks)
    return report


def _list_splits(report: Report, data: InpaintingDataModule) -> dict[Split, InpaintingDataset]:
    """The splits that are looked through; what keeps others from it goes into the report."""
    datasets: dict[Split, InpaintingDataset] = {}
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        try:
            datasets[split] = data.dataset(split)
        except StreamError as error:
            report.remarks.append(f"{split} was not looked through: {error}")
        except (OSError, ValueError) as error:
            report.errors.append(f"{split}: {error}")
    if {"train", "val"} <= datasets.keys():
        try:
            data.check_shared_files()
        except ValueError as error:
            report.errors.append(f"val: {error}")
    if data.test_split == "test":
        try:
            datasets["test"] = data.dataset("test")
        except (OSError, ValueError) as error:
            report.remarks.append(f"test, which training does not read: {error}")
    else:
        _count_test(report, data)
    return datasets


def _count_test(report: Report, data: InpaintingDataModule) -> None:
    """Count the images of a test split that these settings do not use."""
    try:
        files = data.layout.files(data.root, "test")
    except (OSError, ValueError):
        return  # there is none, or not all of it, and nothing will read it
    report.lines.append(
        f"\ntest: {len(files)} images in {files.root}, counted but not read (data.test_split=test "
        "uses them)"
    )
    _compare_count(report, data, "test", len(files))


def _compare_count(report: Report, data: InpaintingDataModule, split: Split, count: int) -> None:
    official = data.layout.counts.get(split)
    if official is not None and official != count:
        report.remarks.append(f"{split} has {count} images, officially there are {official}")


def _check_split(
    report: Report,
    data: InpaintingDataModule,
    split: Split,
    dataset: InpaintingDataset,
    results: Iterable[ImageCheck],
    seen: dict[str, tuple[str, str]],
) -> None:
    count = len(dataset.files)
    report.lines.append(f"\n{split}: {count} images in {dataset.files.root}")
    _compare_count(report, data, split, count)
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    problems: list[str] = []
    fatal: list[str] = []
    small, twins = [], []
    rng = np.random.default_rng(0)
    for result in results:
        if result.problem is not None:
            (problems if result.skippable else fatal).append(result.problem)
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
    few = len(problems) + len(small) <= most_bad(data.max_bad_share, count)
    harmless = (passed_over and few) or split == "test"  # which training does not read
    into = report.remarks if harmless else report.errors
    _name_some(into, f"{split}: unreadable", problems)
    unread = report.remarks if split == "test" else report.errors
    _name_some(unread, f"{split}: on a disk or in a shard that fails", fatal)
    _name_some(into, f"{split}: too small", small)
    _name_some(report.remarks, f"{split}: the same file in two splits", twins)


def _check_mask_files(
    report: Report, data: InpaintingDataModule, generator: FolderMask, results: list[MaskCheck]
) -> None:
    size = data.size
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
    passed_over = data.on_bad_file == "skip" and generator not in mask_folders(data.val_mask)
    few = len(problems) <= most_bad(data.max_bad_share, len(results))
    _name_some(report.remarks if passed_over and few else report.errors, "mask files", problems)


def _check_training(
    report: Report, data: InpaintingDataModule, folder: Path, samples: int, masks: int
) -> None:
    train, val = data.dataset("train"), data.dataset("val")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SoftMaskWarning)  # counted above, file by file
            # Both prepare their masks: pairs that do not match show here, and ratios out of reach.
            data.train_dataloader()
            data.val_dataloader()
            for split, dataset, drawn in (
                ("train", train, masks),
                ("val", val, min(masks, len(val.files))),  # each image keeps its mask
            ):
                ratios = [float(dataset[SampleKey(i, 0)].mask.float().mean()) for i in range(drawn)]
                height, width = dataset.size
                report.lines.append(f"\n{split}: {drawn} masks as drawn for {height}x{width}")
                report.lines += _histogram(ratios)
            # From all over the set: neighbours in a sorted list are often of one kind.
            numbers = [i * len(train.files) // samples for i in range(samples)]
            shown = [train[SampleKey(number, 0)] for number in numbers]
    except (OSError, ValueError) as error:
        report.errors.append(str(error))
        return
    if shown:
        sheet = folder / "samples.png"
        picture_sheet(shown, train.files.root).save(sheet)
        report.lines.append(f"\n{samples} samples as the model sees them: {sheet}")


def picture_sheet(samples: Sequence[Sample], root: Path) -> Image.Image:
    """Samples side by side: the hole in a colour, the whole, and the file's name below.

    Args:
        samples: as the dataset gives them.
        root: the names are relative to this folder.
    """
    height, width = samples[0].image.shape[-2:]
    font = ImageFont.load_default()
    text = 14  # pixels, a line of the font and some space
    cell = 2 * width + 3 * _GAP, height + 2 * _GAP + text
    columns = min(_COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for number, sample in enumerate(samples):
        left = number % columns * cell[0] + _GAP
        top = number // columns * cell[1] + _GAP
        whole = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        sheet.paste(whole, (left + width + _GAP, top))
        hole = Image.fromarray(sample.mask[0].numpy())
        sheet.paste(Image.composite(Image.new("RGB", whole.size, _HOLE), whole, hole), (left, top))
        name = printable(str(Path(sample.path).relative_to(root)))
        while draw.textlength(name, font) > cell[0] - _GAP:  # its end tells more than its start
            name = f"…{name[2:]}"
        draw.text((left, top + height + 1), name, fill="black", font=font)
    return sheet


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
    try:
        report = check(data, folder, cfg.workers, cfg.samples, cfg.masks)
    except KeyboardInterrupt:
        print("\nInterrupted: the same command goes on where a large set was", file=sys.stderr)
        sys.exit(130)
    (folder / "report.txt").write_text(report.text() + "\n", encoding="utf-8")
    print(report.text())
    print(f"This report: {folder / 'report.txt'}")
    if report.errors:
        sys.exit(1)


if __name__ == "__main__":
    main()
