"""Fill holes: ``python -m csa_inpaint.predict images=… masks=… output=…``; see ``--help``."""

import os

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("predict")  # the imports below take seconds
    # PyTorch's threads otherwise wait for each other in busy loops, which take three times as long
    # as the work where other programs use the cores too. PyTorch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import sys
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track

from csa_inpaint.cli.entry import INTERRUPTED, command
from csa_inpaint.data.masks import Mask, MaskGenerator, Polarity, Shown, load_mask
from csa_inpaint.data.transforms import View
from csa_inpaint.inference.files import read_photo, write_photo
from csa_inpaint.inference.network import is_out_of_memory
from csa_inpaint.inference.pairing import Existing, Job, Made, plan, some
from csa_inpaint.inference.photos import fill_photo
from csa_inpaint.inference.trained import load_trained
from csa_inpaint.weights.shipped import shipped_name

MADE: dict[Made, str] = {"alpha": "its alpha", "drawn": "a drawn mask"}  # in messages


def predict(cfg: DictConfig) -> list[Job]:
    """Fill every picture that is not filled yet; known pixels are the input's own.

    Returns:
        what was filled now.

    Raises:
        FileExistsError: a result is there and ``existing`` is ``"error"``.
        ValueError: some pictures have no mask or could not be filled; the others are written all
            the same. Also for masks that are both given and drawn.
    """
    planned = plan(Path(cfg.images), _masks(cfg), Path(cfg.output), f".{cfg.format}")
    if planned.unused:
        verb = "mask has" if len(planned.unused) == 1 else "masks have"
        print(f"{len(planned.unused)} {verb} no picture: {some(planned.unused)}")
    jobs = _remaining(planned.jobs, cfg.existing)
    _check_writable({job.output.parent for job in jobs})
    failures = [f"{image}: it has no mask" for image in planned.missing]
    alone = len(planned.jobs) + len(planned.missing) == 1
    done: list[Job] = []
    try:
        if jobs:
            filler = _Filler(cfg)
            for job in track(jobs, description="Filling"):
                try:
                    filler.fill(job)
                    done.append(job)
                except (OSError, ValueError, MemoryError, RuntimeError) as error:
                    if alone or not _is_the_pictures(error):
                        raise
                    mask = job.mask if isinstance(job.mask, Path) else MADE[job.mask]
                    failures.append(f"{job.image} with {mask}: {_reason(error)}")
    except KeyboardInterrupt:
        print(
            f"\nStopped: {_pictures(len(done))} written to {cfg.output}. The same command goes on.",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)
    if jobs and filler.large_holes:
        other = "black" if cfg.polarity == "white" else "white"
        print(
            f"The hole covers more than half of {_pictures(len(filler.large_holes))}: "
            f"{some(filler.large_holes)}. If the masks are inverted, polarity={other} "
            "existing=overwrite fills the rest instead"
        )
    if failures:
        lines = "".join(f"\n  {line}" for line in failures)
        raise ValueError(
            f"{_pictures(len(done))} written to {cfg.output}; not filled were {len(failures)}:"
            f"{lines}"
        )
    print(f"{_pictures(len(done))} written to {cfg.output}")
    return done


def _masks(cfg: DictConfig) -> Path | Made | None:
    """Where the masks come from."""
    if cfg.get("mask") is not None:
        if cfg.masks is not None:
            raise ValueError(
                f"masks={cfg.masks} names masks and +mask draws some: leave one of both out"
            )
        return "drawn"
    if cfg.masks == "alpha":
        return "alpha"
    return None if cfg.masks is None else Path(cfg.masks)


class _Filler:
    """A trained model, and how it is used."""

    def __init__(self, cfg: DictConfig) -> None:
        self.model = load_trained(cfg.checkpoint, trust=cfg.trust)
        name = shipped_name(cfg.checkpoint)
        if name is not None:
            print(f"Model: {name}, which comes with csa_inpaint (checkpoint=PATH takes another)")
        cuda = cfg.device == "auto" and torch.cuda.is_available()
        device = "cuda" if cuda else "cpu" if cfg.device == "auto" else cfg.device
        self.model.to(device)
        self.polarity: Polarity = cfg.polarity
        self.max_pixels: int = cfg.max_pixels
        self.seed: int = cfg.seed
        self.drawer: MaskGenerator | None = None
        if cfg.get("mask") is not None:
            self.drawer = instantiate(cfg.mask, _convert_="all")
        self.large_holes: list[Path] = []
        self.settings = {
            "size": cfg.size,
            "size_strategy": cfg.size_strategy,
            "blend": cfg.blend,
            "detail": cfg.detail,
            "batch_size": cfg.batch_size,
            "backend": cfg.backend,
        }

    def fill(self, job: Job) -> None:
        """Fill one picture and write it."""
        photo = read_photo(job.image, self.max_pixels)
        if isinstance(job.mask, Path):
            hole = load_mask(job.mask, self.polarity, photo.size, self.max_pixels)
            if hole.mean() > 0.5:
                self.large_holes.append(job.image)
        elif self.drawer is not None:
            hole = self._draw(self.drawer, job.image, photo.size)
        else:
            hole = photo.alpha_hole(str(job.image))
            photo = photo.opaque()
        write_photo(fill_photo(self.model, photo, hole, **self.settings), job.output)

    def _draw(self, drawer: MaskGenerator, image: Path, size: tuple[int, int]) -> Mask:
        """The mask of a picture, which the seed and the picture's name decide."""
        rng = np.random.default_rng([self.seed, zlib.crc32(image.name.encode())])
        view = View((0, 0, size[1], size[0]), flip=False)
        return drawer.for_image(Shown(image.name, size, view, size), rng)


def _remaining(jobs: Sequence[Job], existing: Existing) -> list[Job]:
    """The jobs whose results are not there, or all where results are replaced."""
    if existing not in get_args(Existing):
        raise ValueError(f"existing={existing}: expected {', '.join(get_args(Existing))}")
    there = [job for job in jobs if job.output.exists()]
    if not there or existing == "overwrite":
        return list(jobs)
    names = some([job.output for job in there])
    if existing == "error":
        raise FileExistsError(
            f"{names} would be overwritten: choose another output, existing=skip or "
            "existing=overwrite"
        )
    print(f"{_pictures(len(there))} there already and kept: {names} (existing=overwrite replaces)")
    return [job for job in jobs if not job.output.exists()]


def _check_writable(folders: Iterable[Path]) -> None:
    """Make the folders, and a file in each; an error before hours of work."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(
                f"no result can be written to {folder} ({error.strerror}): choose another output, "
                "or change the folder's access rights"
            ) from error


def _is_the_pictures(error: Exception) -> bool:
    """Whether the error is of one picture, so that the others can be filled."""
    return isinstance(error, OSError | ValueError) or is_out_of_memory(error)


def _reason(error: Exception) -> str:
    """What a picture's line says of its failure; what the device still holds of it is freed."""
    if not is_out_of_memory(error):
        return str(error)
    error.__traceback__ = None  # its frames hold the tensors of the failed picture
    torch.cuda.empty_cache()
    return "there is not enough memory for a picture of this size"


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


@command("predict")
def main(cfg: DictConfig) -> None:
    predict(cfg)


if __name__ == "__main__":
    main()
