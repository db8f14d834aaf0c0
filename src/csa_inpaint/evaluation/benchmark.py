"""Frozen benchmarks: a manifest names every picture by its hash and holds its mask."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from csa_inpaint.data.listing import FileList
from csa_inpaint.data.loading import InpaintingDataset, Sample
from csa_inpaint.data.masks import HoleRatioMask, Mask, MaskGenerator
from csa_inpaint.data.samplers import SampleKey
from csa_inpaint.data.transforms import CenterCrop
from csa_inpaint.evaluation.samples import unique_names

FORMAT = "csa_inpaint benchmark 1"


@dataclass(frozen=True)
class Entry:
    """One sample of a benchmark.

    Args:
        name: of the sample: unique, without an extension.
        image: the picture's file below the root.
        sha256: of that file.
        mask: the hole, as `pack` writes it.
    """

    name: str
    image: str
    sha256: str
    mask: str


@dataclass(frozen=True)
class Benchmark:
    """Pictures, masks and how the pictures are shown: what two evaluations must share.

    Args:
        name: of the benchmark.
        data: what the pictures are, in words.
        masks: what the masks are, in words.
        published: the table of the paper whose protocol this is, None for none.
        size: (height, width) at which the pictures are shown, in pixels.
        central: side of the square that is cut out of the middle first, in pixels; None for none.
        resize: whether the picture is then scaled such that the view just fits.
        upscale_small: whether pictures that are smaller than the view are enlarged.
        entries: the samples.
    """

    name: str
    data: str
    masks: str
    published: str | None
    size: tuple[int, int]
    central: int | None
    resize: bool
    upscale_small: bool
    entries: tuple[Entry, ...]

    def content(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self)

    @property
    def sha256(self) -> str:
        """A hash of everything above; two evaluations with the same one are comparable."""
        text = json.dumps(self.content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, path: Path, root: Path) -> None:
        """Write the manifest, with the folder of the pictures as a hint for this machine."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"format": FORMAT, "sha256": self.sha256, "root": str(root)}
        path.write_text(json.dumps({**about, **self.content()}, indent=1))


def read_benchmark(path: Path) -> tuple[Benchmark, Path]:
    """A manifest, and the folder in which its pictures were when it was made.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no manifest, or it was changed since it was made.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no benchmark {path}: python -m csa_inpaint.make_benchmark makes it, or name "
            "the file with benchmark=FILE"
        )
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        sha256, root = content.pop("sha256"), Path(content.pop("root"))
        entries = tuple(Entry(**entry) for entry in content.pop("entries"))
        height, width = content.pop("size")
        benchmark = Benchmark(**content, size=(height, width), entries=entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of a benchmark: {error}") from error
    for entry in entries:
        # Names become those of the pictures that an evaluation writes.
        for name in (entry.name, entry.image):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"{path} names {name}, which lies outside its folder")
    if benchmark.sha256 != sha256:
        raise ValueError(
            f"{path} was changed after it was made: its content has the SHA-256 "
            f"{benchmark.sha256}, not {sha256}. Restore it, or make another benchmark"
        )
    return benchmark, root


class BenchmarkSource:
    """The samples of a benchmark.

    Args:
        benchmark: which pictures and masks.
        root: folder of the pictures.

    Raises:
        FileNotFoundError: pictures are missing.
        ValueError: pictures differ from those that the benchmark was made with.
    """

    def __init__(self, benchmark: Benchmark, root: Path) -> None:
        self.names: Sequence[str] = [entry.name for entry in benchmark.entries]
        self.size = benchmark.size
        self.entries = benchmark.entries
        _check_files(benchmark, root)
        self.dataset = InpaintingDataset(
            FileList(root, (entry.image for entry in benchmark.entries)),
            CenterCrop(benchmark.resize, benchmark.central),
            NoHole(),
            benchmark.size,
            seed=0,
            upscale_small=benchmark.upscale_small,
        )

    def sample(self, number: int) -> Sample:
        """A picture with the benchmark's mask."""
        mask = unpack(self.entries[number].mask, self.size)
        return self.dataset[SampleKey(number, epoch=0)]._replace(mask=torch.from_numpy(mask)[None])


class NoHole(MaskGenerator):
    """Empty masks, in the place of which the masks of the manifest are put."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Mask:
        return np.zeros((height, width), dtype=np.bool_)


def _check_files(benchmark: Benchmark, root: Path) -> None:
    expected = {entry.image: entry.sha256 for entry in benchmark.entries}
    missing = [image for image in expected if not (root / image).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(expected)} pictures of the benchmark {benchmark.name} are not "
            f"in {root}, the first is {missing[0]}: give their folder with +data.root=DIR"
        )
    changed = [image for image, sha in expected.items() if file_hash(root / image) != sha]
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(expected)} pictures in {root} are not those of the benchmark "
            f"{benchmark.name}, the first is {changed[0]} (its SHA-256 differs): scores on them "
            "would not be comparable. Restore the data set, or make another benchmark"
        )


def entries(
    dataset: InpaintingDataset,
    root: Path,
    numbers: Iterable[int],
    ratios: Sequence[tuple[float, float]] | None,
    seed: int,
) -> Iterator[Entry]:
    """The samples of a new benchmark.

    Args:
        dataset: its pictures, and the maker of its masks.
        root: folder that the names of the pictures start from.
        numbers: of the pictures to take.
        ratios: bins (low, high] of the hole's ratio, of each of which every picture gets a mask;
            None for one mask a picture, whatever its ratio.
        seed: decides the masks.

    Raises:
        ValueError: a picture is unreadable or too small, or a mask cannot be made.
    """
    makers: dict[str, MaskGenerator] = {"": dataset.mask}
    if ratios is not None:
        makers = {
            f"_{100 * low:g}-{100 * high:g}": HoleRatioMask(
                dataset.mask, (float(np.nextafter(low, 1)), high)
            )
            for low, high in ratios
        }
    numbers = list(numbers)
    paths = [dataset.files.path(number) for number in numbers]
    images = [path.absolute().relative_to(root).as_posix() for path in paths]
    names = unique_names(images)
    for number, path, image, name in zip(numbers, paths, images, names, strict=True):
        for index, (suffix, make) in enumerate(makers.items()):
            mask = dataset.mask_of(number, make, np.random.default_rng([seed, number, index]))
            yield Entry(f"{name}{suffix}", image, file_hash(path), pack(mask))


def in_words(config: Any, places: bool = True) -> str:
    """A configuration on one line, what has a target as a call: ``CenterMask(size=0.5)``.

    Args:
        config: plain values.
        places: False leaves out folders (keys that end in ``root``), which differ between machines.
    """
    if isinstance(config, Mapping):
        target = config.get("_target_")
        given = ", ".join(
            f"{key}={in_words(value, places)}"
            for key, value in config.items()
            if key != "_target_" and value is not None and (places or not key.endswith("root"))
        )
        return f"{{{given}}}" if target is None else f"{target.rsplit('.', 1)[-1]}({given})"
    return str(config)


def masks_in_words(data: Mapping[str, Any], places: bool = True) -> str:
    """The masks that a data module's configuration gives an evaluation, on one line.

    Args:
        data: plain values.
        places: see ``in_words``.
    """
    words = in_words(data.get("val_mask") or data["mask"], places)
    if data.get("hole_ratio") and not data.get("val_mask"):
        words += " with hole ratios {} to {}".format(*data["hole_ratio"])
    return words


def pack(mask: Mask) -> str:
    """A mask as text: its bits in raster order, compressed, in base 64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpack(text: str, size: tuple[int, int]) -> Mask:
    """The mask of a text.

    Shape: (H, W), True in the hole
    """
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).astype(np.bool_)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
