"""Server of the local page for manual matching, which uses only the standard library.

The server listens on 127.0.0.1 and serves one page to clients that know the token in its address.
It refuses other hosts and origins, and stops when the page accepts, cancels or is closed.
"""

from __future__ import annotations

import hmac
import io
import json
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from boresight.errors import BoresightError

__all__ = ["PageServer"]

HOST = "127.0.0.1"

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

LARGEST_BODY = 10_000_000
"""Maximum size of a request, in bytes."""

SILENCE_S = 12.0
"""Seconds without a request after which the page counts as closed. The page sends a request every
two seconds."""

SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Action = Callable[[dict[str, Any]], dict[str, Any]]


class PageServer:
    """Server of the page, until the page is finished.

    Parameters
    ----------
    pictures : mapping of str to bytes
        PNG pictures, by name.
    actions : mapping of str to callable
        Handlers of the requests that the page may send; each maps a JSON document to another.
    port : int
        Port; 0 for any free port.

    Raises
    ------
    OSError
        If the port is in use.
    """

    def __init__(self, pictures: dict[str, bytes], actions: dict[str, Action], port: int = 0):
        self.token = secrets.token_urlsafe(24)
        self.done = threading.Event()
        self.pictures, self.actions = pictures, actions
        self.lock = threading.Lock()
        self.last_request: float | None = None
        page = self

        class Handler(_Handler):
            server_page = page

        self.server = ThreadingHTTPServer((HOST, port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)

    @property
    def address(self) -> str:
        """Address of the page, with its token."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def wait(self, timeout: float | None) -> None:
        """Serve until the page is finished or closed, or is not opened within `timeout` seconds."""
        self.thread.start()
        start = time.monotonic()
        try:
            while not self.done.wait(0.1):
                now = time.monotonic()
                if self.last_request is None:
                    if timeout is not None and now - start > timeout:
                        break
                elif now - self.last_request > SILENCE_S:
                    break
        finally:
            self.server.shutdown()
            self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_page: PageServer
    server_version = "Boresight"
    sys_version = ""

    def log_message(self, *_: Any) -> None:
        """Suppress the log."""

    def do_GET(self) -> None:
        """Answer with the page, one of its files, or a picture."""
        parts = urlsplit(self.path)
        name = parts.path.lstrip("/") or "index.html"
        if not self._is_authorized(parse_qs(parts.query).get("token", [""])[0]):
            return
        page = self.server_page
        if name.startswith("picture/") and (picture := page.pictures.get(name[8:])) is not None:
            self._answer(picture, "image/png")
        elif name in ("index.html", "page.js", "page.css"):
            data = (files("boresight.movement") / "page" / name).read_bytes()
            # The page passes the token to the files it loads.
            data = data.replace(b"@TOKEN@", page.token.encode())
            self._answer(data, TYPES[name[name.rindex(".") :]] + "; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Run the action that the page requests."""
        if not self._is_authorized(self.headers.get("X-Token", "")):
            return
        page, name = self.server_page, self.path.lstrip("/")
        action = page.actions.get(name)
        try:
            length = int(self.headers.get("Content-Length", ""))
            if action is None or not 0 <= length <= LARGEST_BODY:
                raise ValueError
            given = json.loads(self.rfile.read(length) or b"{}")
            if not isinstance(given, dict):
                raise ValueError
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        with page.lock:
            try:
                answer = action(given)
            except (BoresightError, KeyError, TypeError, ValueError) as error:
                answer = {"error": str(error)}
        self._answer(json.dumps(answer).encode(), "application/json")
        if answer.get("done"):
            page.done.set()

    def _is_authorized(self, token: str) -> bool:
        """Return whether the request is from our page; otherwise refuse it."""
        page = self.server_page
        hosts = {f"{HOST}:{page.port}", f"localhost:{page.port}"}
        origin = self.headers.get("Origin")
        own = self.headers.get("Host") in hosts
        own = own and (origin is None or origin in {f"http://{host}" for host in hosts})
        if not own or not hmac.compare_digest(token.encode(), page.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN)
            return False
        page.last_request = time.monotonic()
        return True

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in SECURITY.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def as_png(picture: Any) -> bytes:
    """Return an 8-bit picture as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
