"""The page at `/`, which works without a network: its files, and what a browser may do with them."""

from collections.abc import Mapping
from importlib.resources import files as resources

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_KINDS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/assets/page.css": ("page.css", "text/css; charset=utf-8"),
    "/assets/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


def files() -> Mapping[str, tuple[bytes, str]]:
    """Return the page's files by path, each with its content type."""
    there = resources(__name__)
    return {path: (there.joinpath(name).read_bytes(), kind) for path, (name, kind) in _KINDS.items()}
