"""Fill holes: ``python -m csa_inpaint.predict checkpoint=… images=… masks=… output=…``."""

from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from rich.progress import track

from csa_inpaint.cli.entry import command
from csa_inpaint.data.files import list_images
from csa_inpaint.data.images import load_image
from csa_inpaint.data.masks import Polarity, load_mask
from csa_inpaint.inference import inpaint
from csa_inpaint.training.module import CSAInpainter

SHOWN = 5  # names in a message


class Job(NamedTuple):
    """One picture to fill."""

    image: Path
    mask: Path
    output: Path


def plan(images: Path, masks: Path, output: Path, overwrite: bool = False) -> list[Job]:
    """Pair pictures with masks and name the outputs, before anything is computed.

    A folder's pictures are paired with the mask of the same relative path, whatever its extension,
    and written below ``output`` as PNG. A single mask file serves every picture.

    Raises:
        FileNotFoundError: a path is not there, or pictures have no mask.
        ValueError: two pictures or masks have one name, or one picture is given with a mask folder.
        FileExistsError: an output is there and ``overwrite`` is False.
    """
    for path in (images, masks):
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
    if images.is_file():
        # A name with an extension is a file's, unless such a folder is there.
        named = bool(output.suffix) and not output.is_dir()
        if named and output.suffix.lower() != ".png":
            raise ValueError(
                f"output={output}: results are written as .png, which keeps the known pixels exact"
            )
        target = output if named else output / f"{images.stem}.png"
        mask = masks if masks.is_file() else _by_name(masks).get(Path(images.stem))
        if mask is None:
            raise FileNotFoundError(f"{masks} has no mask named {images.stem}.*")
        jobs = [Job(images, mask, target)]
    else:
        if output.is_file():
            raise FileExistsError(f"output={output} is a file, but images={images} is a folder")
        jobs = _pair(images, masks, output)
    there = [str(job.output) for job in jobs if job.output.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{_some(there)} would be overwritten: choose another output or set overwrite=true"
        )
    return jobs


def _pair(images: Path, masks: Path, output: Path) -> list[Job]:
    pictures = _by_name(images)
    holes = dict.fromkeys(pictures, masks) if masks.is_file() else _by_name(masks)
    missing = [str(pictures[name]) for name in pictures if name not in holes]
    if missing:
        raise FileNotFoundError(
            f"no mask in {masks} for {_some(missing)}: a mask has its picture's name, with any "
            "image extension"
        )
    return [Job(pictures[n], holes[n], output / f"{n}.png") for n in pictures]


def _by_name(folder: Path) -> dict[Path, Path]:
    """A folder's image files by their path below it, without the extension."""
    files: dict[Path, Path] = {}
    for file in list_images(folder):
        name = file.relative_to(folder).with_suffix("")
        if name in files:
            raise ValueError(f"{files[name]} and {file} differ only in their extension: rename one")
        files[name] = file
    return files


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def predict(cfg: DictConfig) -> list[Job]:
    """Fill every picture and write it as PNG; known pixels are the input's own.

    Raises:
        ValueError: pictures of a folder could not be filled; the others are written all the same.
    """
    jobs = plan(Path(cfg.images), Path(cfg.masks), Path(cfg.output), cfg.overwrite)
    model = CSAInpainter.load_from_checkpoint(cfg.checkpoint, map_location="cpu")
    cuda = cfg.device == "auto" and torch.cuda.is_available()
    device = "cuda" if cuda else "cpu" if cfg.device == "auto" else cfg.device
    model.to(device).eval()
    failed = []
    for job in track(jobs, description="Filling"):
        try:
            fill(model, job, cfg.polarity)
        except (OSError, ValueError, MemoryError, torch.OutOfMemoryError) as error:
            if len(jobs) == 1:
                raise
            failed.append(f"\n  {job.image} with {job.mask}: {_reason(error)}")
    if failed:
        raise ValueError(
            f"{len(jobs) - len(failed)} of {len(jobs)} pictures are written to {cfg.output}; not "
            f"filled were{''.join(failed)}"
        )
    print(f"{len(jobs)} picture{'' if len(jobs) == 1 else 's'} written to {cfg.output}")
    return jobs


def _reason(error: Exception) -> str:
    """What a picture's line says of its failure; what the device still holds of it is freed."""
    if not isinstance(error, MemoryError | torch.OutOfMemoryError):
        return str(error)
    error.__traceback__ = None  # its frames hold the tensors of the failed picture
    torch.cuda.empty_cache()
    return "not enough memory for a picture of this size"


def fill(model: CSAInpainter, job: Job, polarity: Polarity) -> None:
    """Fill one picture and write it."""
    image = load_image(job.image)
    mask = load_mask(job.mask, polarity, size=(image.height, image.width))
    job.output.parent.mkdir(parents=True, exist_ok=True)
    inpaint(model, image, mask).save(job.output)


@command("predict")
def main(cfg: DictConfig) -> None:
    predict(cfg)


if __name__ == "__main__":
    main()
