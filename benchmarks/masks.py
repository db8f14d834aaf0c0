"""Milliseconds a mask of each kind, by the share of the picture that its hole covers, and whether
every mask is in the range.

`python benchmarks/masks.py` writes its own mask files (512x512, one bit) and label maps (512x512,
with a palette) and puts the table into `results/masks.md`.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL
from common import RESULTS, commit, machine, table, versions
from PIL import Image

from csa_inpaint.data import (
    BlobMask,
    BorderMask,
    CenterMask,
    FileList,
    FolderMask,
    FreeformMask,
    HoleRatioMask,
    IrregularTestMask,
    MaskGenerator,
    MixtureMask,
    RectangleMask,
    SegmentationMask,
)

SIZE = (256, 256)
RATIOS = [(0.01, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95)]


def write_files(folder: Path, masks: int, maps: int) -> tuple[Path, Path]:
    """Mask files with holes of every size, and label maps of five labels and a background."""
    held = HoleRatioMask(FreeformMask(), (0.01, 0.95))
    for name in ("masks", "maps"):
        (folder / name).mkdir()
    for number in range(masks):
        mask = held(512, 512, np.random.default_rng(number))
        Image.fromarray(mask).save(folder / "masks" / f"{number:05}.png")
    for number in range(maps):
        rng = np.random.default_rng(number)
        labels = np.zeros((512, 512), dtype=np.uint8)
        for label in range(1, 6):
            labels[BlobMask((1, 2))(512, 512, rng)] = label
        picture = Image.fromarray(labels).convert("P")
        picture.putpalette([value for label in range(256) for value in (label, 0, 255 - label)])
        picture.save(folder / "maps" / f"{number:05}.png")
    return folder / "masks", folder / "maps"


def milliseconds(mask: MaskGenerator, draws: int, repeats: int) -> float:
    """Processor time of one mask: the best of several passes."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for number in range(draws):
            mask(*SIZE, np.random.default_rng(number))
        times.append(time.process_time() - start)
    return 1000 * min(times) / draws


def failures(mask: MaskGenerator, ratio: tuple[float, float], samples: int) -> int:
    """How many of the masks are errors or outside the range."""
    failed = 0
    for number in range(samples):
        try:
            share = np.count_nonzero(mask(*SIZE, np.random.default_rng(number))) / np.prod(SIZE)
            failed += not ratio[0] <= share <= ratio[1]
        except ValueError:
            failed += 1
    return failed


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--samples",
        type=int,
        default=20_000,
        help="masks of each kind in all, looked at for failures",
    )
    parser.add_argument("--draws", type=int, default=200, help="masks of a timed pass")
    parser.add_argument("--repeats", type=int, default=5, help="passes, of which the best counts")
    parser.add_argument("--files", type=int, default=1500, help="mask files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        masks, maps = write_files(Path(folder), options.files, options.files // 10)
        drawn: dict[str, MaskGenerator] = {
            "center": CenterMask(),
            "rectangle": RectangleMask(),
            "freeform": FreeformMask(),
            "border": BorderMask(),
            "blob": BlobMask(),
        }
        kinds = {
            **drawn,
            "segmentation": SegmentationMask(maps),
            "mixture": MixtureMask(drawn),
            "folder": FolderMask(masks),
            "irregular": FolderMask(masks, flip=True, rotate=True, dilate=(0, 5)),
            "irregular_test": IrregularTestMask(masks, ratio=(0.01, 0.95)),
        }
        rows, failed, measured = [], 0, []
        for name, kind in kinds.items():
            cells = []
            for ratio in RATIOS:
                held = HoleRatioMask(kind, ratio)
                start = time.perf_counter()
                held.prepare(FileList(masks, []), SIZE)
                measured.append((name, time.perf_counter() - start))
                failed_here = failures(held, ratio, math.ceil(options.samples / len(RATIOS)))
                failed += failed_here
                spent = milliseconds(held, options.draws, options.repeats)
                cells.append(f"{spent:.2f}" + (f" ({failed_here} failed)" if failed_here else ""))
            without = milliseconds(kind, options.draws, options.repeats)
            rows.append([name, f"{without:.2f}", *cells])
            print(rows[-1], flush=True)
    prepared = max(seconds for name, seconds in measured if name == "irregular")
    head = ["mask=", "no ratio", *(f"{low:g} to {high:g}" for low, high in RATIOS)]
    text = [
        "# Masks by hole ratio\n",
        f"{machine('cpu')}; {versions()}, NumPy {np.__version__}, Pillow {PIL.__version__}; "
        f"{commit()}.",
        f"256x256, default settings, one process. Best of {options.repeats} passes of "
        f"{options.draws} masks, processor time. Files are 512x512, masks of one bit and label "
        "maps with a palette; `irregular` also turns and widens.\n",
        f"Failures, which are errors and masks outside the range: {failed} of at least "
        f"{options.samples:,} masks of each kind, spread over the ranges. Measuring "
        f"{options.files:,} files once for `irregular`, with five dilations, took "
        f"{prepared:.1f} s.",
        table("ms a mask", head, rows),
    ]
    (RESULTS / "masks.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
