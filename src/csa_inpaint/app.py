"""Fill holes in a browser: ``python -m csa_inpaint.app [checkpoint=PATH]``."""

from csa_inpaint.cli.help import answer

if __name__ == "__main__":
    answer("app")  # the imports below take seconds

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from omegaconf import DictConfig

import csa_inpaint
from csa_inpaint.cli.entry import command
from csa_inpaint.inference.network import is_out_of_memory
from csa_inpaint.inference.page import (
    Filled,
    Upload,
    explain,
    fill_upload,
    open_upload,
    painted,
    save,
)
from csa_inpaint.training.loading import load_model
from csa_inpaint.training.module import Inpainter

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SESSION = 3600  # seconds that the photos of a page which nobody uses are kept
MAGENTA = "#ff00ff"


def build(model: Inpainter, cfg: DictConfig, folder: Path) -> Any:
    """The page, a ``gradio.Blocks``.

    Args:
        model: trained, in evaluation mode.
        cfg: ``conf/app.yaml``.
        folder: results are written there.

    Raises:
        ValueError: Gradio is not installed.
    """
    gr = _gradio()

    @contextmanager
    def told() -> Iterator[None]:
        """Show an error of the user's on the page, until the user closes it."""
        try:
            yield
        except (ValueError, OSError) as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            message = "There is not enough memory: reduce the photo or paint a smaller hole"
            raise gr.Error(message, duration=None, print_exception=False) from error

    def show(path: str | None) -> tuple[Any, ...]:
        """Put the photo under the brush; the results of another photo go away."""
        no_results = (None, None, None, None, gr.DownloadButton(interactive=False), "")
        if path is None:
            return None, None, *no_results
        with told():
            upload = open_upload(Path(path), cfg.max_pixels)
        editor = {"background": upload.preview, "layers": [], "composite": None}
        return upload, editor, *no_results

    def run(upload: Upload | None, editor: dict[str, Any] | None) -> tuple[Any, ...]:
        """Fill what is painted."""
        with told():
            if upload is None or editor is None:
                raise ValueError("There is no photo: drop one first")
            filled = fill_upload(model, upload, painted(editor["layers"], upload.photo.size))
            result = save(filled, Path(tempfile.mkdtemp(dir=folder)))
        hint = "Click into the hole of the result to see where the CSA layer takes that place from."
        download = gr.DownloadButton(value=str(result), interactive=True)
        return filled, filled.composite, filled.rough, filled.refined, download, hint

    def ask(filled: Filled | None, click: Any) -> tuple[Any, str]:
        """Show the sources of the place that was clicked."""
        with told():
            if filled is None:
                raise ValueError("Nothing is filled yet: paint a hole and fill it first")
            try:
                return explain(model, filled, *click.index)
            except ValueError as error:  # in words, since an error would cover the result
                return filled.composite, str(error)

    # Gradio passes the event to the argument that is annotated with its class.
    ask.__annotations__["click"] = gr.SelectData

    private: dict[str, Any] = {"api_visibility": "private"}
    # Gradio's other buttons would download the reduced picture, or offer it to a public site.
    picture: dict[str, Any] = {"format": "png", "interactive": False, "buttons": ["fullscreen"]}
    one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model", **private}
    with gr.Blocks(
        title="csa_inpaint", analytics_enabled=False, delete_cache=(SESSION, SESSION)
    ) as page:
        upload = gr.State(time_to_live=SESSION)
        filled = gr.State(time_to_live=SESSION)
        gr.Markdown("# Fill holes with Coherent Semantic Attention")
        with gr.Row():
            with gr.Column():
                photo = gr.File(label="1. Drop a photo", height=110, elem_id="photo")
                editor = gr.ImageEditor(
                    label="2. Paint over what is to be filled",
                    elem_id="editor",
                    type="numpy",
                    sources=(),
                    transforms=(),
                    layers=False,
                    brush=gr.Brush(colors=[MAGENTA], color_mode="fixed"),
                    height=560,
                )
                button = gr.Button("3. Fill", variant="primary", elem_id="fill")
            with gr.Column():
                composite = gr.Image(label="Result", elem_id="composite", **picture)
                hint = gr.Markdown(elem_id="hint")
                download = gr.DownloadButton(
                    "Download the result (PNG, full size)", elem_id="save", interactive=False
                )
                with gr.Row():
                    rough = gr.Image(label="Rough", **picture)
                    refined = gr.Image(label="Refined", **picture)
        results = [filled, composite, rough, refined, download, hint]
        photo.change(show, photo, [upload, editor, *results], **private)
        button.click(run, [upload, editor], results, **one_at_a_time)
        composite.select(ask, filled, [composite, hint], **one_at_a_time)
    page.queue(max_size=cfg.waiting, default_concurrency_limit=1, api_open=False)
    return page


def serve(cfg: DictConfig, block: bool = True) -> Any:
    """Load the model and open the page.

    Args:
        cfg: ``conf/app.yaml``.
        block: wait until the page is closed. False returns at once.

    Returns:
        the page.

    Raises:
        OSError: the port is taken.
        ValueError: a setting is out of range, the checkpoint is none, or Gradio is not installed.
    """
    for key in ("port", "max_upload", "max_pixels", "waiting"):
        if not cfg[key] >= 1:
            raise ValueError(f"{key}={cfg[key]}: expected at least 1")
    gr = _gradio()
    model = _model(cfg)
    folder = tempfile.TemporaryDirectory(prefix="csa_inpaint_")
    page = build(model, cfg, Path(folder.name))
    page.results = folder  # the folder lives as long as the page
    if cfg.host not in LOOPBACK:
        print(f"host={cfg.host}: other machines can open this page, without a password")
    page.launch(
        server_name=cfg.host,
        server_port=cfg.port,
        max_file_size=cfg.max_upload * 1000**2,
        theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
        footer_links=[],
        share=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"The page is open on http://{cfg.host}:{cfg.port} (Ctrl-C closes it)")
    if block:
        page.block_thread()
    return page


def _model(cfg: DictConfig) -> Inpainter:
    if cfg.checkpoint is None:
        load_pretrained: Any = csa_inpaint.load_pretrained
        model: Inpainter = load_pretrained()
    else:
        model = load_model(Path(cfg.checkpoint), trust=cfg.trust)
    cuda = cfg.device == "auto" and torch.cuda.is_available()
    return model.to("cuda" if cuda else "cpu" if cfg.device == "auto" else cfg.device)


def _gradio() -> ModuleType:
    """Gradio, told to send nothing to anybody before it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ValueError("the page needs Gradio: pip install 'csa-inpaint[app]'") from error
    module: ModuleType = gradio
    return module


@command("app")
def main(cfg: DictConfig) -> None:
    serve(cfg)


if __name__ == "__main__":
    main()
