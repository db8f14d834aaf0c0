"""Time and memory of filling a large photograph with a trained model, as a user runs it.

    python benchmarks/inference.py CHECKPOINT [--photo FILE] [--other FOLDER]

The photograph is enlarged to 3000x2000. ``--other`` is the ``src`` folder of another checkout, such
as that of a commit before, whose command is measured too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, commit, machine, table, versions
from PIL import Image, ImageDraw

from csa_inpaint import inpaint, load_model

SIZE = (3000, 2000)  # width and height
PHOTO = Path(__file__).parents[1] / "src/csa_inpaint/data/photos/val/sklearn_china.jpg"
HEAD = ["", "wall, s", "CPU, s", "peak memory, MB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--other", type=Path, help="src folder of another checkout")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, arguments.photo)
        rows = []
        for title, mask, options in (
            ("crop, hole of 700x600", "block", []),
            ("resize, hole of 700x600", "block", ["size_strategy=resize"]),
            ("full, hole of 700x600", "block", ["size_strategy=full"]),
            ("crop, 1,000 scratches", "scratches", []),
        ):
            rows.append([title, *measure(arguments, folder, mask, options)])
            print(*rows[-1], flush=True)
        if arguments.other:
            rows.append(
                [
                    "the other checkout, hole of 700x600",
                    *measure(arguments, folder, "block", [], arguments.other),
                ]
            )
        rows.append(["the imports alone", *run(arguments, ["-c", "import csa_inpaint.predict"])])
        wall, cpu = inpaint_alone(arguments, folder)
    text = (
        f"# Filling a photograph of {SIZE[0]}x{SIZE[1]}\n\n"
        f"{machine('cpu')}; {versions()}, {arguments.threads} threads; {commit()}.\n"
        f"Photograph {arguments.photo.name}, the command `csa_inpaint.predict` from start to end, "
        f"JPEG in, PNG out. Medians of runs: {arguments.repeats}.\n"
        f"{table('The whole command', HEAD, rows)}\n\n"
        f"`inpaint` alone, in a process that has the model and the hole of 700x600: {wall:.1f} s, "
        f"{cpu:.1f} s of CPU.\n"
    )
    print(text)
    (RESULTS / "inference.md").write_text(text)


def make_files(folder: Path, photo: Path) -> None:
    """The enlarged photograph and the masks."""
    image = Image.open(photo).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    image.save(folder / "photo.jpg", quality=95)
    block = Image.new("L", SIZE)
    ImageDraw.Draw(block).rectangle((1150, 700, 1849, 1299), fill=255)
    block.save(folder / "block.png")
    scratches = Image.new("L", SIZE)
    draw = ImageDraw.Draw(scratches)
    rng = np.random.default_rng(0)
    for x, y, dx, dy in rng.uniform((0, 0, -30, -30), (*SIZE, 30, 30), (1000, 4)):
        draw.line((x, y, x + dx, y + dy), fill=255, width=3)
    scratches.save(folder / "scratches.png")


def measure(
    arguments: argparse.Namespace,
    folder: Path,
    mask: str,
    options: list[str],
    source: Path | None = None,
) -> list[str]:
    """Run the command."""
    command = [
        "-m",
        "csa_inpaint.predict",
        f"checkpoint={arguments.checkpoint.resolve()}",
        f"images={folder / 'photo.jpg'}",
        f"masks={folder / f'{mask}.png'}",
        f"output={folder / 'filled.png'}",
        *options,
    ]
    return run(arguments, command, folder / "filled.png", source)


def inpaint_alone(arguments: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Medians of the wall and CPU time of the Python call, after one to warm up."""
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.checkpoint)
    pixels = np.asarray(Image.open(folder / "photo.jpg"))
    hole = np.asarray(Image.open(folder / "block.png"))
    measured = []
    for _ in range(arguments.repeats + 1):
        start = time.perf_counter(), time.process_time()
        inpaint(model, pixels, hole)
        measured.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = np.median(measured[1:], axis=0)
    return wall, cpu


def run(
    arguments: argparse.Namespace,
    command: list[str],
    output: Path | None = None,
    source: Path | None = None,
) -> list[str]:
    """Medians of wall time, CPU time and peak memory of a Python process."""
    library = source or Path(__file__).parents[1] / "src"
    environment = os.environ | {
        "OMP_NUM_THREADS": str(arguments.threads),
        "PYTHONPATH": str(library.resolve()),
    }
    measured = []
    for _ in range(arguments.repeats):
        if output is not None:
            output.unlink(missing_ok=True)
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        if status:
            raise RuntimeError(f"{' '.join(command)} failed with status {status}")
        measured.append((wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    wall, cpu, memory = np.median(measured, axis=0)
    return [f"{wall:.1f}", f"{cpu:.1f}", f"{memory:.0f}"]


if __name__ == "__main__":
    main()
