"""A hook of MkDocs: what pages link to outside ``docs/``.

In a checkout a page may link to any file. On the site, tables of measurements are pages of their
own, and a link to any other file of the checkout becomes the file's name.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
_LINK = re.compile(r"\[([^\]]*)\]\((\.\.?/[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the measurements, and leave this file out."""
    files.remove(files.src_uris["links.py"])
    for path in sorted((ROOT / RESULTS).iterdir()):
        if path.suffix in (".md", ".png"):
            files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite links that leave ``docs/``. MkDocs warns of those that lead nowhere."""
    here = posixpath.dirname(page.file.src_uri)

    def rewrite(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join("docs", here, target))
        if path.startswith("docs/") or not (ROOT / path).exists():
            return link[0]
        if posixpath.dirname(path) == RESULTS:
            page_path = f"results/{posixpath.basename(path)}"
            return f"[{text}]({posixpath.relpath(page_path, here or '.')}{anchor})"
        return text if "`" in text else f"{text} (`{path}`)"

    return _LINK.sub(rewrite, markdown)
