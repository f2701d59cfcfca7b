"""The page: one HTML file that holds its data, its style, its script and its charts' library."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from common.records import StrataError

SCRIPTS = ("state.js", "charts.js", "sections.js", "page.js")
MARK = re.compile(r"\{\{(\w+)\}\}")
LIMIT = 5_000_000  # bytes: beyond that a page is slow on a phone
SETTINGS = "window.VEGA_STRATA = {vegaEmbed, vega};"


def require_library() -> None:
    """Raise if the extra with the charts' library is not installed."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        raise StrataError(
            "experiment=report draws with Vega-Lite, which is not installed: "
            "pip install 'strata[report]', or pip install vl-convert-python"
        ) from None


@cache
def library() -> str:
    """Vega, Vega-Lite and vega-embed as one script; the wheel holds them, nothing is fetched."""
    import vl_convert

    return str(vl_convert.javascript_bundle(SETTINGS))


def render(title: str, content: Mapping[str, Any]) -> str:
    """The page's text. Its policy allows the scripts that are in it, and no address at all."""
    scripts = [library(), "\n".join(asset(name) for name in SCRIPTS)]
    for script in scripts:
        if "</script" in script.lower():
            raise ValueError("a script of the page would end early")
    parts = {
        "title": html.escape(title),
        "policy": policy(scripts),
        "style": asset("page.css"),
        "data": as_json(content),
        "library": scripts[0],
        "script": scripts[1],
    }
    # One pass: what is put in is never looked through for more marks.
    return MARK.sub(lambda match: parts[match[1]], asset("page.html"))


def asset(name: str) -> str:
    """A file of the folder `page`."""
    return (files("analysis.report") / "page" / name).read_text(encoding="utf-8")


def as_json(content: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it is in, nor start a comment or another element."""
    text = json.dumps(content, allow_nan=False, default=str, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def policy(scripts: list[str]) -> str:
    """A Content-Security-Policy: these scripts by hash, inline styles, nothing from outside."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
