"""The page of ``csa_inpaint.app`` in a real browser, and how it is started."""

import importlib.util
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

import csa_inpaint
from csa_inpaint import CSAInpainter, app
from csa_inpaint.cli.conf import config_directory

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PHOTO = Path(csa_inpaint.__file__).parent / "data/photos/val/sklearn_china.jpg"
# What there is without a graphics card.
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 90_000  # milliseconds


def missing() -> str | None:
    """What the test in a browser lacks here."""
    for package in ("gradio", "playwright"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    return None if CHROMIUM else "there is no Chromium"


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        return compose("app", list(overrides))


@pytest.fixture
def shipped(
    make_module: Callable[..., CSAInpainter], monkeypatch: pytest.MonkeyPatch
) -> CSAInpainter:
    """A tiny model in place of the one that comes with the library."""
    model = make_module().eval()
    monkeypatch.setattr(csa_inpaint, "load_pretrained", lambda: model, raising=False)
    return model


@pytest.mark.parametrize("key", ["port", "max_upload", "max_pixels", "waiting"])
def test_setting_below_one_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}=0: expected at least 1"):
        app.serve(settings(f"{key}=0"), block=False)


def test_page_without_gradio_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r"pip install 'csa-inpaint\[app\]'"):
        app.serve(settings(), block=False)


def test_page_is_for_this_machine_alone_by_default() -> None:
    assert settings().host == "127.0.0.1"


@pytest.fixture
def url(shipped: CSAInpainter) -> Iterator[str]:
    """Where a page that takes files of a megabyte is open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = app.serve(settings(f"port={port}", "max_upload=1"), block=False)
    yield f"http://127.0.0.1:{port}"
    page.close()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=f"{missing()}")
def test_page_fills_a_painted_hole(url: str, tmp_path: Path) -> None:
    from playwright.sync_api import Page, expect, sync_playwright

    no_picture = tmp_path / "notes.jpg"
    no_picture.write_text("no picture")
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(PHOTO.read_bytes() + bytes(1_100_000))

    def told(page: Page, text: str) -> None:
        """Wait for a message and close it."""
        toast = page.locator(".toast-body", has_text=text)
        expect(toast).to_be_visible()
        toast.locator("button").first.click()
        expect(toast).to_have_count(0)

    def upload(page: Page, path: Path) -> None:
        remove = page.locator("#photo button[aria-label='Clear']")
        while remove.count():  # of the file before, and of the message about it
            remove.last.click()
            page.wait_for_timeout(500)
        expect(page.locator("#photo")).to_contain_text("Drop File Here")
        page.set_input_files("#photo input[type=file]", path)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        hosts: set[Any] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(url)

        page.click("#fill")
        told(page, "There is no photo: drop one first")
        upload(page, huge)
        told(page, "exceed the maximum allowed size")
        upload(page, no_picture)
        told(page, "notes.jpg is not an image")

        upload(page, PHOTO)
        expect(page.locator("#photo")).to_contain_text(PHOTO.name)
        canvas = page.locator("#editor canvas").first
        canvas.wait_for()
        page.wait_for_timeout(2000)  # the editor lays the photo out
        page.click("#fill")
        told(page, "Nothing is painted")

        box = canvas.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 30, y)
        page.mouse.down()
        page.mouse.move(x + 30, y, steps=4)
        page.mouse.up()
        page.click("#fill")
        result = page.locator("#composite img")
        result.wait_for()
        with page.expect_download() as downloading:
            page.click("#save")
        downloading.value.save_as(tmp_path / "result.png")
        assert downloading.value.suggested_filename == f"{PHOTO.stem}_filled.png"

        expect(page.locator("#hint")).to_contain_text("Click into the hole")
        size = result.bounding_box()
        assert size is not None
        result.click(position={"x": size["width"] / 2, "y": size["height"] / 2})
        expect(page.locator("#hint")).to_contain_text("The CSA layer makes the features")
        result.click(position={"x": 2, "y": size["height"] - 2})
        expect(page.locator("#hint")).to_contain_text("is not in the hole")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()

    with Image.open(tmp_path / "result.png") as filled, Image.open(PHOTO) as photo:
        changed = (np.asarray(filled) != np.asarray(photo)).any(axis=2)
    assert filled.size == photo.size
    assert 0 < changed.mean() < 0.5
    rows, columns = np.nonzero(changed)
    assert abs(rows.mean() - photo.height / 2) < 20
    assert abs(columns.mean() - photo.width / 2) < 20
    assert hosts <= {"127.0.0.1", None}  # None: data: and blob: of the page itself
