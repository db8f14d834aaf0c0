"""How large the holes of mask files are, measured once."""

import hashlib
import logging
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csa_inpaint.cli.parallel import in_parallel
from csa_inpaint.data.array_cache import cache_file, load_arrays, one_process, save_arrays
from csa_inpaint.data.listing import FileList
from csa_inpaint.data.masks.generator import BadMaskError
from csa_inpaint.data.masks.raster import dilated, turned
from csa_inpaint.data.masks.reading import Polarity, read_usable

# So many files are measured by several processes and remembered; fewer take less than a second.
CACHE_FROM = 1000

_TOGETHER = 64  # files that a process is given at a time

_log = logging.getLogger(__name__)


class Survey(NamedTuple):
    """Which files are measured, and how their masks are shaped before."""

    files: FileList
    polarity: Polarity
    size: tuple[int, int]  # (height, width) of the masks, in pixels
    resize: bool  # False: files of another size are bad
    turns: tuple[int, ...]  # by how many times 90 degrees masks are turned
    dilation: int  # the most pixels by which holes are widened

    def key(self) -> bytes:
        """What tells the measurements of one folder apart from others."""
        settings = (self.polarity, self.size, self.resize, self.turns, self.dilation)
        return os.fsencode(self.files.root.resolve()) + repr(settings).encode()

    def state(self) -> npt.NDArray[np.uint8]:
        """A digest of the files' names, sizes and times of change."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.files.names():
            digest.update(os.fsencode(name))
            try:
                status = (self.files.root / name).stat()
            except OSError:
                continue  # reported when the file is read
            digest.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
        return np.frombuffer(digest.digest(), dtype=np.uint8)


class Measured(NamedTuple):
    """What was measured."""

    pixels: npt.NDArray[np.int32]  # (files, turns, dilation + 1) of the hole; -1: a bad file
    touches: npt.NDArray[np.bool_]  # (files,) whether the hole of the file touches the border
    bad: list[BadMaskError]


def measure(survey: Survey, processes: bool) -> Measured:
    """Measure files, or recall what was measured of them.

    Args:
        survey: the files.
        processes: several processes may be started.
    """
    files = survey.files
    if len(files) < CACHE_FROM:
        return measure_part(survey)
    cache, state = cache_file("masks", survey.key()), survey.state()
    with one_process(cache, f"measuring the mask files in {files.root}"):
        known = load_arrays(cache)
        if known is None or not np.array_equal(known["state"], state):
            measured = _measure_all(survey, processes)
            save_arrays(cache, state=state, pixels=measured.pixels, touches=measured.touches)
            return measured
    bad = np.flatnonzero(known["pixels"][:, 0, 0] < 0).tolist()
    return Measured(
        known["pixels"],
        known["touches"],
        measure_part(survey._replace(files=files.select(bad))).bad,
    )


def _measure_all(survey: Survey, processes: bool) -> Measured:
    files = survey.files
    _log.info("measuring the holes of %d mask files in %s, once", len(files), files.root)
    parts = [
        survey._replace(files=files[start : start + _TOGETHER])
        for start in range(0, len(files), _TOGETHER)
    ]
    results = list(
        in_parallel(measure_part, parts, None, "mask files")
        if processes
        else map(measure_part, parts)
    )
    return Measured(
        np.concatenate([result.pixels for result in results]),
        np.concatenate([result.touches for result in results]),
        [bad for result in results for bad in result.bad],
    )


def measure_part(survey: Survey) -> Measured:
    """Measure files, one after the other."""
    count, size = len(survey.files), survey.size
    pixels = np.full((count, len(survey.turns), survey.dilation + 1), -1, dtype=np.int32)
    touches = np.zeros(count, dtype=np.bool_)
    bad = []
    for index, path in enumerate(survey.files):
        try:
            read, _ = read_usable(path, survey.polarity, None if survey.resize else size)
        except BadMaskError as error:
            bad.append(error)
            continue
        for place, turns in enumerate(survey.turns):
            mask = turned(read, *size, turns)
            touches[index] |= mask[[0, -1]].any() or mask[:, [0, -1]].any()
            for dilation in range(survey.dilation + 1):
                # Widening by one pixel again and again gives the squares of `dilated`.
                mask = dilated(mask, 1) if dilation else mask
                pixels[index, place, dilation] = np.count_nonzero(mask)
    return Measured(pixels, touches, bad)
