"""Tar files as streams: of commands, of servers, of stores that fsspec knows."""

import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from csa_inpaint.data import ShardError
from csa_inpaint.data.datasets import tar_streams
from csa_inpaint.data.datasets.tar_streams import is_stream, read_images
from csa_inpaint.data.images import StorageError

CONTENTS = {f"{index:03}.jpg": bytes([index]) * 20_000 for index in range(5)}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Broken(BaseHTTPRequestHandler):
    """Sends a part of what it promises: half of it the first time, then more and more."""

    content = b""
    parts: tuple[float, ...] = ()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        part, *rest = type(self).parts
        type(self).parts = (*rest, part) if not rest else tuple(rest)
        self.wfile.write(self.content[: int(part * len(self.content))])

    def log_message(self, *args: object) -> None:
        pass


def serve(handler: object) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `tmp_path`."""
    yield from serve(partial(Quiet, directory=str(tmp_path)))


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_streams, "_WAITS", (0.0, 0.0))


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """Five images, each with a label."""
    path = tmp_path / "a.tar"
    write(path, "w")
    return path


def write(path: Path, mode: str) -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in CONTENTS.items():
            for member, data in ((f"./{name}", content), (f"./{name[:-4]}.cls", b"7")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def read(url: str) -> dict[str, bytes]:
    images = list(read_images(url))
    assert [image.path for image in images] == [f"{url}/{image.name}" for image in images]
    assert len({image.name for image in images}) == len(images)
    return {image.name: image.content for image in images}


def test_commands_servers_and_stores_give_the_same_images(tar: Path, server: str) -> None:
    fsspec.filesystem("memory").pipe("/a.tar", tar.read_bytes())
    for url in (f"pipe:cat {tar}", f"{server}/a.tar", f"file://{tar}", "memory://a.tar"):
        assert is_stream(url)
        assert read(url) == CONTENTS
    assert not is_stream(str(tar))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars_are_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a.tar", f"w:{kind}")
    assert read(f"file://{tmp_path}/a.tar") == CONTENTS


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("{server}/gone.tar", FileNotFoundError, r"^http.*/gone\.tar does not exist .*404"),
        ("file:///gone/x.tar", FileNotFoundError, r"^file:///gone/x\.tar does not exist"),
        ("http://127.0.0.1:9/x.tar", StorageError, r"^http://127\.0\.0\.1:9/x\.tar cannot be open"),
        ("nope://x.tar", ValueError, r"^nope://x\.tar cannot be opened: Protocol not known"),
        ("s3://bucket/x.tar", ModuleNotFoundError, r"^s3://bucket/x\.tar needs .*s3fs"),
        (
            "pipe:cat {folder}/gone",
            StorageError,
            r"^the command of pipe:cat .* status 1 \(cat: .*No",
        ),
        ("pipe:cat {tar}; exit 3", StorageError, r"^the command of pipe:cat .* status 3$"),
        (
            "pipe:head -c 50000 {tar}; exit 4",
            StorageError,
            r"^the command of pipe:head .* status 4",
        ),
        ("pipe:head -c 50000 {tar}", ShardError, r"^pipe:head -c 50000 .*does not give a tar file"),
        ("pipe:echo '<html>'", ShardError, r"^pipe:echo .* does not give a tar file"),
        ("{server}/text.tar", ShardError, r"^http.*/text\.tar does not give a tar file"),
        ("file://{folder}/cut.tar.gz", ShardError, r"^file:.*cut\.tar\.gz does not give a tar"),
    ],
)
def test_streams_that_fail_are_named(
    tar: Path, server: str, url: str, error: type[Exception], message: str
) -> None:
    (tar.parent / "text.tar").write_text("<html>" * 500)
    write(tar.parent / "whole.tar.gz", "w:gz")
    packed = (tar.parent / "whole.tar.gz").read_bytes()
    (tar.parent / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(error, match=message) as caught:
        read(url.format(server=server, folder=tar.parent, tar=tar))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("parts", "complete"),
    [((0.5, 1), True), ((0.1, 0.1, 1), True), ((0.3, 0.5, 0.7, 0.9, 1), True), ((0.3,), False)],
)
def test_stream_that_breaks_is_opened_again(
    tar: Path, parts: tuple[float, ...], complete: bool
) -> None:
    handler = type("Handler", (Broken,), {"content": tar.read_bytes(), "parts": parts})
    for server in serve(handler):
        if complete:
            assert read(server) == CONTENTS
        else:
            with pytest.raises(StorageError, match=r"broke off \d+ bytes before its end"):
                read(server)


def test_stream_that_is_left_ends_its_command(tar: Path, tmp_path: Path) -> None:
    # `exec`: no shell stays between.
    images = read_images(f"pipe:cat {tar}; exec sleep 600")
    assert next(images).name == "000.jpg"
    images.close()  # would wait for ten minutes if the command went on
