"""Renders templates to pages that load nothing from the network, and writes them."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_merge.html import number_text
from onnx_merge.io.base_name import base_name
from onnx_merge.io.plain_text import plain
from onnx_merge.io.save import write_whole

if TYPE_CHECKING:
    import jinja2

FILTERS = ("count", "byte_size", "exact", "percent", "significant", "signed", "milliseconds", "seconds", "plural")


def rendered(template: str, **context: object) -> str:
    """Return the text of a template. Every value is escaped, and holds no control codes. ``context``: its variables."""
    return plain(_environment().get_template(template).render(**context))


def write_page(page: str, path: Path) -> None:
    """Write a page to ``path`` atomically.

    Raises
    ------
    OnnxMergeError: the file cannot be written.
    """
    write_whole(page.encode("utf-8", "backslashreplace"), path, "the page")  # names may hold lone surrogates


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # here: its import takes an eighth of a second, and few runs write a page

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(number_text, name) for name in FILTERS} | {"base_name": base_name})
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        style=_source("page.css"),
        script=script,
        # Only this script runs, and nothing is loaded: names in a model cannot add either.
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:",
    )
    return environment


def _source(name: str) -> str:
    """Return the text of a file in the folder of templates."""
    return importlib.resources.files("onnx_merge.html").joinpath("templates", name).read_text("utf-8")
