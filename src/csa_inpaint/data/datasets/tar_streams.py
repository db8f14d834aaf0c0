"""Tar files read from their start to their end, from wherever their bytes come."""

import logging
import subprocess
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus
from itertools import islice
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Protocol
from urllib.error import HTTPError

import fsspec

from csa_inpaint.data.datasets.shards import ShardError
from csa_inpaint.data.images import IMAGE_SUFFIXES, StorageError
from csa_inpaint.data.listing import is_image

_PIPE = "pipe:"
_BLOCK = 1 << 16  # bytes
_MESSAGE = 500  # bytes of what a failing command says

# A server that does not answer for so many seconds has failed.
_PATIENCE = 60.0

# After a failure a stream is opened again; seconds to wait before the first and second time.
_WAITS = (1.0, 5.0)

_log = logging.getLogger(__name__)


class StreamedImage(NamedTuple):
    """An image file in a stream."""

    path: str  # what messages name it by: the URL, followed by its name
    name: str
    content: bytes


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Checked:
    """A file of some store, whose failures are errors that name the URL."""

    def __init__(self, url: str, file: Any) -> None:
        self.url = url
        self.file = file

    def read(self, size: int, /) -> bytes:
        try:
            content: bytes = self.file.read(size)
        except Exception as error:  # every store has exceptions of its own
            raise StorageError(f"{self.url} broke off while it was read ({error})") from error
        # An HTTP response counts what is still to come, and ends quietly without it.
        lacking = getattr(self.file, "length", None)
        if not content and lacking:
            raise StorageError(f"{self.url} broke off {lacking} bytes before its end")
        return content


def is_stream(url: str) -> bool:
    """Whether a URL gives a tar file from its start to its end only."""
    return url.startswith(_PIPE) or "://" in url


def without_braces(url: str) -> list[str]:
    """What a pattern with braces stands for.

    Raises:
        ModuleNotFoundError: the package that expands braces is not installed.
    """
    if "{" not in url:
        return [url]
    try:
        from braceexpand import braceexpand
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "braces in data.urls need a package: pip install 'csa-inpaint[shards]'"
        ) from error
    return list(braceexpand(url))


def read_images(url: str) -> Iterator[StreamedImage]:
    """The images of a tar file, plain or compressed by gzip, bzip2 or xz, in their order.

    A stream that breaks is opened again, and what it gave before is passed over; it may break
    twice without giving an image in between.

    Args:
        url: `pipe:` with a shell command that writes the tar file, `http(s)://`, or a URL of
            another store that fsspec knows.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: fsspec needs a package for this kind of URL.
        ValueError: fsspec does not know this kind of URL.
        StorageError: the store, the network or the command failed.
        ShardError: what comes is no tar file, or a damaged one.
    """
    given, failures = 0, 0
    while True:
        try:
            for image in islice(_images(url), given, None):
                given += 1
                failures = 0
                yield image
            return
        except StorageError as error:
            if failures == len(_WAITS):
                raise
            _log.warning("%s. Opening it again in %g s", error, _WAITS[failures])
            time.sleep(_WAITS[failures])
            failures += 1


def no_image(tar: object) -> ShardError:
    """The error for tar files without an image, of which one is named."""
    return ShardError(
        f"there is no image in the tar files of data.urls, {tar} for one: images are members that "
        f"end in {', '.join(IMAGE_SUFFIXES)}"
    )


def _images(url: str) -> Iterator[StreamedImage]:
    with _opened(url) as stream:
        try:
            # `tarfile` only calls `read`.
            with tarfile.open(fileobj=stream, mode="r|*", bufsize=_BLOCK) as tar:  # type: ignore[call-overload]
                for member in tar:
                    name = member.name.removeprefix("./")
                    content = tar.extractfile(member)
                    if content is not None and is_image(PurePosixPath(name).name):
                        yield StreamedImage(f"{url}/{name}", name, content.read())
                    tar.members.clear()  # `tarfile` remembers them all
        except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
            raise ShardError(
                f"{url} does not give a tar file, or a truncated or damaged one ({error})"
            ) from error


def _opened(url: str) -> AbstractContextManager[_Readable]:
    if url.startswith(_PIPE):
        return _command(url)
    if url.startswith(("http://", "https://")):
        return _store(url, lambda: urllib.request.urlopen(url, timeout=_PATIENCE))
    return _store(url, lambda: fsspec.open(url, "rb").open())


@contextmanager
def _store(url: str, connect: Callable[[], Any]) -> Iterator[_Readable]:
    try:
        file = connect()
    except ImportError as error:
        raise ModuleNotFoundError(f"{url} needs another package: {error} (pip install)") from error
    except ValueError as error:
        raise ValueError(f"{url} cannot be opened: {error}") from error
    except Exception as error:  # every store has exceptions of its own
        missing = isinstance(error, HTTPError) and error.code == HTTPStatus.NOT_FOUND
        if missing or isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{url} does not exist ({error}): check data.urls") from error
        raise StorageError(
            f"{url} cannot be opened ({error}): check the address, the network and your rights"
        ) from error
    with closing(file):
        yield _Checked(url, file)


@contextmanager
def _command(url: str) -> Iterator[_Readable]:
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            url.removeprefix(_PIPE), shell=True, stdout=subprocess.PIPE, stderr=messages
        ) as process,
    ):
        stream: Any = process.stdout
        damage = None
        try:
            yield stream
        except ShardError as error:
            damage = error
        except BaseException:
            process.terminate()  # nobody reads on
            raise
        # To its end: a command that nobody listens to any more fails for that reason alone.
        while stream.read(_BLOCK):
            pass
        if process.wait() != 0:
            messages.seek(0)
            said = messages.read(_MESSAGE).decode(errors="replace").strip()
            raise StorageError(
                f"the command of {url} failed with exit status {process.returncode}"
                f"{f' ({said})' if said else ''}"
            ) from damage
        if damage is not None:
            raise damage
