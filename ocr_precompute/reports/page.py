"""HTML pages that need nothing but themselves: no network, no server, no script from elsewhere.

What comes from data sets is untrusted. It enters a page in blocks of JSON alone, in which no
character can end the block, and scripts put it into the page as text. The page's own policy allows
the styles and scripts that are written here, by their hashes, and nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def asset(name: str, package: str = "ocr_precompute.reports") -> str:
    """The text of a file in a package's `pages/`, such as `base.css`."""
    return (files(package) / "pages" / name).read_text("utf-8")


def embedded(data: Any) -> str:
    """The data as JSON that may stand in a script element or a script file, ASCII alone."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.translate(_ESCAPES)


def mark(kind: str) -> str:
    """What every page of that kind has near its beginning."""
    return f'<meta name="generator" content="ocr-precompute {kind}">'


def page(
    kind: str,
    title: str,
    body: str,
    style: str,
    script: str,
    blocks: Iterable[tuple[str, str]],
    scripts_beside: bool = False,
) -> str:
    """A whole HTML document.

    kind: what it is a page of, one word. title: text, escaped here. body, style, script: of this
    package, as they are. blocks: id and content, which `embedded` gave, of each block of data.
    scripts_beside: whether the page may load scripts from its own folder.
    """
    beside = " 'self' file:" if scripts_beside else ""
    policy = "; ".join(
        (
            "default-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "img-src data:",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}{beside}",
        )
    )
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        mark(kind),
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy, quote=False)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        body,
    ]
    parts += [
        f'<script type="application/json" id="{name}">{text}</script>' for name, text in blocks
    ]
    parts += [f"<script>{script}</script>", "</html>", ""]
    return "\n".join(parts)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
