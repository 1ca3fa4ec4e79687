"""One file of HTML: what is told, the page's style and scripts, and Vega-Lite; its policy lets nothing else run.

assets/vega.min.js is made once for each of its versions, by

    vl_convert.javascript_bundle("window.vegaEmbed=vegaEmbed;")

of vl-convert-python 1.9.0: Vega 6.2.0, Vega-Lite 6.4, vega-embed 7.0.2, under the licences of assets/VEGA-LICENSE.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from string import Template

from simulator.report.names import in_page
from simulator.report.web.told import Told

ASSETS = files("simulator.report.web") / "assets"
SCRIPTS = ("vega.min.js", "charts.js", "said.js", "page.js")


def page(told: Told, live: bool = False) -> str:
    """The page, which asks no network for anything; a `live` one asks who serves it for what is new."""
    style, scripts = _asset("page.css"), [_asset(name) for name in SCRIPTS]
    policy = [
        "default-src 'none'",
        f"script-src {' '.join(map(_digest, scripts))}",
        f"style-src {_digest(style)}",
        "img-src data: blob:",
        f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return Template(_asset("page.html")).substitute(
        title=in_page(told["title"]),
        policy="; ".join(policy),
        style=style,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        told=in_script(told),
        live="live" if live else "",
    )


def in_script(told: Told) -> str:
    """JSON that no parser of HTML takes for anything but text."""
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
