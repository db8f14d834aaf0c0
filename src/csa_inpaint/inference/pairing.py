"""Which picture is filled with which mask, and under which name the result is written."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from csa_inpaint.data.listing import is_image, list_images
from csa_inpaint.inference.files import FORMATS, check_format

SHOWN = 5  # names in a message
MARK = "_mask"  # between a picture's name and what tells its masks apart

Existing = Literal["skip", "overwrite", "error"]
Made = Literal["alpha", "drawn"]  # a mask that is no file: the picture's alpha, or a drawing
Files = dict[Path, Path]  # by their path below a folder, without the extension


class Job(NamedTuple):
    """One picture to fill."""

    image: Path
    mask: Path | Made
    output: Path


class Plan(NamedTuple):
    """What is to be done, and what cannot be."""

    jobs: list[Job]
    missing: list[Path]  # pictures without a mask
    unused: list[Path]  # masks without a picture


def plan(images: Path, masks: Path | Made | None, output: Path, suffix: str) -> Plan:
    """Pair pictures with masks and name the results, before anything is computed.

    A folder's pictures are paired with the masks of the same relative path, whatever its extension:
    ``name`` or ``name_mask…``, as many as there are. Without a folder of masks, ``name_mask…`` lies
    beside the picture. Results are written below ``output`` under the picture's relative path, or
    under the mask's where a picture has several.

    Args:
        images: a picture or a folder.
        masks: a mask for all pictures, a folder, ``"alpha"`` for each picture's transparency,
            ``"drawn"`` for a drawn mask for each, or None for masks beside the pictures.
        output: a file for one picture, or a folder.
        suffix: extension of results in a folder: ``.png``, ``.tif``, ``.webp``, ``.jpg``.

    Raises:
        FileNotFoundError: a path is not there, or no picture has a mask.
        FileExistsError: the output of a folder is a file.
        ValueError: two pictures or masks have one name, several masks are for one named output, an
            output would replace an input, or its format is not known.
    """
    for path in (images, *([masks] if isinstance(masks, Path) else [])):
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
    if suffix not in FORMATS:
        raise ValueError(f"format={suffix[1:]}: expected {', '.join(s[1:] for s in FORMATS)}")
    # A name with an extension is a file's, unless such a folder is there.
    named = images.is_file() and bool(output.suffix) and not output.is_dir()
    if named:
        check_format(output)
    elif output.is_file():
        raise FileExistsError(f"output={output} is a file, but images={images} is a folder")

    if images.is_file():
        pictures = {Path(images.stem): images}
        beside, recursive = images.parent, False
    else:
        pictures = _by_name(_inputs(images, output), images)
        beside, recursive = images, True
    if masks is not None and (not isinstance(masks, Path) or masks.is_file()):
        if recursive:
            pictures = _without_masks(pictures, masks)
        pairs: list[tuple[Path, Path, Path | Made]] = [(name, name, masks) for name in pictures]
        unused: list[Path] = []
    else:
        own = masks is not None and not masks.samefile(beside)
        folder = masks if masks is not None else beside
        candidates = _by_name(
            _inputs(folder, output)
            if recursive
            else [path for path in folder.iterdir() if is_image(path.name)],
            folder if recursive else None,
        )
        if not own:
            candidates = {name: path for name, path in candidates.items() if _marked(name)}
            pictures = {name: path for name, path in pictures.items() if name not in candidates}
        owners = {name: _owner(name, pictures, own) for name in candidates}
        pairs = [(owner, name, candidates[name]) for name, owner in owners.items() if owner]
        # One picture's masks lie among those of others.
        unused = [candidates[name] for name in candidates if recursive and not owners[name]]
    counts = Counter(picture for picture, _, _ in pairs)
    missing = [path for name, path in pictures.items() if name not in counts]
    if not pairs:
        raise FileNotFoundError(
            f"no mask in {masks or beside} for {some(missing or [images])}: a mask has its "
            f"picture's name, or that and {MARK}1, with any image extension"
        )
    if named and len(pairs) > 1:
        raise ValueError(
            f"output={output}: {images} has {len(pairs)} masks, so that the output must be a folder"
        )
    jobs = [
        Job(
            pictures[picture],
            mask,
            output if named else output / f"{picture if counts[picture] == 1 else name}{suffix}",
        )
        for picture, name, mask in sorted(pairs, key=lambda pair: pair[:2])
    ]
    _check_outputs(jobs)
    return Plan(jobs, missing, unused)


def some(names: Sequence[object]) -> str:
    """The first names of a list, and how many there are more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more


def _inputs(folder: Path, output: Path) -> list[Path]:
    """The image files below a folder, but not the results in an output folder below it."""
    inside = output.absolute() != folder.absolute()
    return [
        path
        for path in list_images(folder)
        if not (inside and path.absolute().is_relative_to(output.absolute()))
    ]


def _by_name(files: Iterable[Path], root: Path | None) -> Files:
    """Files by their path below a folder, or by their name alone, without the extension."""
    named: Files = {}
    for file in files:
        name = (file.relative_to(root) if root else Path(file.name)).with_suffix("")
        if name in named:
            raise ValueError(f"{named[name]} and {file} differ only in their extension: rename one")
        named[name] = file
    return named


def _marked(name: Path) -> re.Match[str] | None:
    """``name_mask``, ``name_mask1``, ``name_mask_sky``; but not ``name_masked``."""
    return re.fullmatch(rf"(.+){MARK}(\d*|[-_.].+)", name.name)


def _owner(mask: Path, pictures: Mapping[Path, Path], own: bool) -> Path | None:
    """The picture that a mask belongs to; only masks in a folder of their own have its name."""
    if own and mask in pictures:
        return mask
    marked = _marked(mask)
    owner = mask.with_name(marked[1]) if marked else None
    return owner if owner in pictures else None


def _without_masks(pictures: Files, mask: Path | Made) -> Files:
    """The pictures of a folder, without the mask for all of them and the masks beside them."""
    return {
        name: path
        for name, path in pictures.items()
        if _owner(name, pictures, own=False) is None
        and not (isinstance(mask, Path) and path.samefile(mask))
    }


def _check_outputs(jobs: Sequence[Job]) -> None:
    inputs = {job.image.resolve() for job in jobs}
    inputs |= {job.mask.resolve() for job in jobs if isinstance(job.mask, Path)}
    for job in jobs:
        if job.output.resolve() in inputs:
            raise ValueError(
                f"output {job.output} would replace an input: choose another output folder"
            )
