"""Images per second of the data pipeline on one core, beside the usual PIL and torchvision one,
milliseconds a mask, and what large data sets take: the start of a training, and a check.

Both read the same JPEG files and give 256-pixel batches with free-form masks: the middle of each
picture at its short side, mirrored at random. `python benchmarks/data.py` writes its own files,
from the photographs that come with the library, at 256x256 and at 1024x768.
`python benchmarks/data.py large` measures the start with lists of 1.8 million images (empty files,
in a temporary folder) and `check_data` on as many pictures as `--images` says.
"""

import argparse
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

import numpy as np
import torch
from common import commit, machine, peak_memory, versions
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from csa_inpaint.data import (
    BlobMask,
    BorderMask,
    CenterMask,
    FolderMask,
    FreeformMask,
    IrregularTestMask,
    ListFiles,
    MaskGenerator,
    RandomCrop,
    RectangleMask,
    ShippedPhotos,
    list_images,
    to_float,
)
from csa_inpaint.data.checking import check_image
from csa_inpaint.data.images import decode_at_least, open_image, upright_size
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.loading import (
    DECODE_RESERVE,
    BatchLoader,
    InpaintingDataset,
)
from csa_inpaint.data.samplers import EvaluationSampler
from csa_inpaint.data.transforms import show, to_tensor

SIZE = (256, 256)
BATCH = 16
MASKS = 200
CATEGORIES = 365


class UsualDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """What most repositories do: PIL, torchvision's transforms, floats from the workers."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.mask = FreeformMask()
        self.transform = transforms.Compose(
            [
                transforms.Resize(SIZE[0], transforms.InterpolationMode.BICUBIC),
                transforms.RandomCrop(SIZE),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.transform(Image.open(self.files[index]).convert("RGB"))
        mask = self.mask(*SIZE, np.random.default_rng(index))
        return image, torch.from_numpy(mask)[None].float()


def write_images(
    folder: Path, count: int, height: int, width: int, suffix: str = "jpg"
) -> FileList:
    """The shipped photographs at another size, with noise for the detail that enlarging lacks."""
    photos = ShippedPhotos().files(None, "train")
    names = [f"{number:04}.{suffix}" for number in range(count)]
    for number, name in enumerate(names):
        with Image.open(photos[number % len(photos)]) as photo:
            pixels = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))
        if height > photo.height:
            pixels = pixels + np.random.default_rng(number).normal(0, 4, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name, quality=88)
    return FileList(folder, names)


def usual_pipeline(files: FileList, workers: int) -> Callable[[], None]:
    """One pass over the files with the usual pipeline."""
    loader = DataLoader(
        UsualDataset(files),
        BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def run() -> None:
        for _ in loader:
            pass

    return run


def this_pipeline(files: FileList, workers: int) -> Callable[[], None]:
    """One pass over the files with this library, the step to floats included."""
    dataset = InpaintingDataset(files, RandomCrop((1, 1)), FreeformMask(), SIZE, seed=0)
    loader = BatchLoader(
        dataset,
        print,
        sampler=EvaluationSampler(len(files)),
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def run() -> None:
        for batch in loader:
            to_float(batch)

    return run


def rate(run: Callable[[], None], images: int, repeats: int) -> float:
    """Images per second: the best of several passes, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return images / min(times)


def stages(files: FileList) -> dict[str, float]:
    """Milliseconds an image of each stage of this library's pipeline."""
    spent = dict.fromkeys(("open", "decode", "resize", "tensor", "mask", "to float"), 0.0)
    transform, mask = RandomCrop((1, 1)), FreeformMask()

    def timed(stage: str, task: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = task(*arguments)
        spent[stage] += time.perf_counter() - start
        return result

    for number, path in enumerate(files):
        rng = np.random.default_rng(number)
        with timed("open", open_image, path) as opened:
            picture = timed("open", upright_size, opened)
            view = transform(picture, SIZE, rng)
            image = timed("decode", decode_at_least, opened, DECODE_RESERVE * view.scale(SIZE))
        tensor = timed(
            "tensor", to_tensor, timed("resize", show, image, view.on(picture, image), SIZE)
        )
        timed("mask", mask, *SIZE, rng)
        timed("to float", lambda values: values.float().div_(127.5).sub_(1), tensor)
    return {stage: 1000 * seconds / len(files) for stage, seconds in spent.items()}


def mask_milliseconds(folder: Path, repeats: int) -> dict[str, float]:
    """Milliseconds of processor time for a 256x256 mask of each kind, files of 512x512 included."""
    for number in range(MASKS):
        mask = FreeformMask()(512, 512, np.random.default_rng(number))
        Image.fromarray(mask).save(folder / f"{number:05}.png")
    kinds: dict[str, MaskGenerator] = {
        "center": CenterMask(0.5),
        "rectangle": RectangleMask(),
        "freeform": FreeformMask(),
        "border": BorderMask(),
        "blob": BlobMask(),
        "irregular": FolderMask(folder, flip=True, rotate=True, dilate=(0, 5)),
        "irregular_test": IrregularTestMask(folder),
    }
    spent = {}
    for name, kind in kinds.items():
        times = []
        for _ in range(repeats):
            start = time.process_time()
            for number in range(MASKS):
                kind(*SIZE, np.random.default_rng(number))
            times.append(time.process_time() - start)
        spent[name] = 1000 * min(times) / MASKS
    return spent


class Start(NamedTuple):
    """What a process took to start."""

    seconds: float
    megabytes: float  # at most, above those before


def write_large(folder: Path, entries: int) -> None:
    """A folder of empty files like Places2's, and a list of them."""
    each = entries // CATEGORIES
    with (folder / "train.txt").open("w") as lines:
        for category in range(CATEGORIES):
            below = f"{'abcdefgh'[category % 8]}/category_of_scene_{category:03}"
            (folder / "images" / below).mkdir(parents=True)
            for number in range(each):
                name = f"{below}/{number:08}.jpg"
                (folder / "images" / name).touch()
                lines.write(f"{name} {category}\n")


def start(kind: str, folder: Path, results: "Queue[Start]") -> None:
    """List a large data set, in a process of its own."""
    before, began = peak_memory(), time.perf_counter()
    if kind == "list":
        ListFiles(folder / "train.txt", None).files(folder / "images", "train")
    else:
        list_images(folder / "images")
    results.put(Start(time.perf_counter() - began, peak_memory() - before))


WORKER = """
import pickle, sys, torch
from common import peak_memory
before = peak_memory()
pickle.load(sys.stdin.buffer)
print(peak_memory() - before)
"""


def worker_megabytes(dataset: InpaintingDataset) -> float:
    """What a process that has imported torch takes more when it is given a dataset."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=pickle.dumps(dataset),
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    )
    return float(done.stdout)


def large(entries: int, images: int) -> None:
    """Print what a large data set takes to start with and to check."""
    context = multiprocessing.get_context("spawn")

    def measured(task: Callable[..., None], *arguments: Any) -> Any:
        results = context.Queue()
        process = context.Process(target=task, args=(*arguments, results))
        process.start()
        result = results.get()
        process.join()
        return result

    print(f"{machine('cpu')}, {versions()}, {commit()}\n")
    print("| start | s | MB at most |", "|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        write_large(folder, entries)
        time.sleep(3)  # a folder that just changed is not remembered
        for kind in ("list", "folder"):
            for run in ("first run", "later runs"):
                result = measured(start, kind, folder)
                print(f"| {kind}, {run} | {result.seconds:.1f} | {result.megabytes:.0f} |")
        files = ListFiles(folder / "train.txt", None).files(folder / "images", "train")
        dataset = InpaintingDataset(files, RandomCrop(), CenterMask(), SIZE, seed=0)
        print(f"| spawned worker, above torch alone | | {worker_megabytes(dataset):.0f} |")
        print(f"\n{len(files)} entries, {files.nbytes() / 1e6:.0f} MB as arrays\n")
    print(
        "| check of | ms an image, one core | 50,000 on two cores, min |", "|---|---|---|", sep="\n"
    )
    for suffix, side in (("jpg", 256), ("png", 256), ("jpg", 512), ("png", 512), ("png", 1024)):
        with tempfile.TemporaryDirectory() as name:
            written = write_images(Path(name), images, side, side, suffix)
            times = []
            for _ in range(3):
                began = time.process_time()
                problems = [check_image(written, index).problem for index in range(images)]
                times.append(time.process_time() - began)
                if any(problems):
                    raise ValueError(f"a picture that was just written is bad: {problems}")
        ms = 1000 * min(times) / images
        print(f"| {side}x{side} {suffix} | {ms:.2f} | {50_000 * ms / 1000 / 60 / 2:.1f} |")


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["pipeline", "large"], default="pipeline")
    parser.add_argument("--entries", type=int, default=1_803_460, help="files of the large set")
    parser.add_argument("--images", type=int, default=200, help="files of each size")
    parser.add_argument("--repeats", type=int, default=5, help="passes, of which the best counts")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="worker processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "large":
        large(options.entries, options.images)
        return
    print("| JPEG | workers | PIL + torchvision, images/s | this library, images/s | ratio |")
    print("|---|---|---|---|---|")
    shares = []
    for height, width in ((256, 256), (768, 1024)):
        with tempfile.TemporaryDirectory() as folder:
            files = write_images(Path(folder), options.images, height, width)
            for workers in options.workers:
                usual = rate(usual_pipeline(files, workers), len(files), options.repeats)
                ours = rate(this_pipeline(files, workers), len(files), options.repeats)
                print(
                    f"| {width}x{height} | {workers} | {usual:.0f} | {ours:.0f} | "
                    f"{ours / usual:.2f} |"
                )
            spent = stages(files)
            total = sum(spent.values())
            shares.append(
                f"{width}x{height}, ms an image: "
                + ", ".join(f"{name} {ms:.2f} ({ms / total:.0%})" for name, ms in spent.items())
            )
    print("", *shares, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        masks = mask_milliseconds(Path(folder), options.repeats)
    print("\n| mask, 256x256 | ms |", "|---|---|", sep="\n")
    print(*(f"| {name} | {ms:.2f} |" for name, ms in masks.items()), sep="\n")


if __name__ == "__main__":
    main()
