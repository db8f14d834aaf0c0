"""Arrays that are remembered from run to run, in the user's cache folder."""

import hashlib
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock, Timeout

_log = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]


def cache_file(kind: str, key: bytes) -> Path:
    """The file in the user's cache folder that holds what is remembered under a key.

    Args:
        kind: what is remembered; the start of the file's name.
        key: tells things of one kind apart.
    """
    name = hashlib.blake2b(key, digest_size=16).hexdigest()
    return platformdirs.user_cache_path("csa_inpaint") / f"{kind}-{name}.npz"


def load_arrays(cache: Path) -> Arrays | None:
    """What was remembered; None where nothing was, or where the file is unreadable (logged)."""
    try:
        with np.load(cache) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("the cache %s is unreadable (%s): its content is made again", cache, error)
        return None


def save_arrays(cache: Path, **arrays: npt.NDArray[Any]) -> None:
    """Remember arrays; where that is impossible, it is logged."""
    # Written beside and moved: other processes see the old file or the new one, never half of it.
    part = cache.with_name(f"{cache.stem}-{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(cache)
    except OSError as error:
        if part.exists():  # not below a file that stands in the place of the folder
            part.unlink()
        _log.warning("%s could not be written (%s)", cache, error)


@contextmanager
def one_process(cache: Path, what: str) -> Iterator[None]:
    """Let one process at a time make what a cache holds, so that the others find it there.

    Args:
        cache: the file in the user's cache folder.
        what: what the process does, for the log of those that wait.
    """
    lock = FileLock(cache.with_suffix(".lock"))
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        _log.info("another process is %s: waiting for it", what)
        lock.acquire()
    except OSError:  # `save_arrays` reports that nothing can be written there
        yield
        return
    try:
        yield
    finally:
        lock.release()
