"""The local page for matching points by hand: its server, of the standard library alone.

It listens on 127.0.0.1, serves one page to who knows the token in its address, answers no other
host or origin, and ends when the page accepts, cancels or is closed.
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
"""Bytes of a request at most."""

SILENCE_S = 12.0
"""The page is closed when it has not been heard of for so long; it calls every two seconds."""

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
    """Serves the page until it is done with.

    Parameters
    ----------
    pictures : mapping of str to bytes
        PNG pictures by name.
    actions : mapping of str to callable
        Requests that the page may send: from a JSON document to another.
    port : int
        Port; 0 takes a free one.

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
        self.heard: float | None = None
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
        """Serve until the page is done with, closed, or did not come within `timeout` seconds."""
        self.thread.start()
        start = time.monotonic()
        try:
            while not self.done.wait(0.1):
                now = time.monotonic()
                if self.heard is None:
                    if timeout is not None and now - start > timeout:
                        break
                elif now - self.heard > SILENCE_S:
                    break
        finally:
            self.server.shutdown()
            self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_page: PageServer
    server_version = "Boresight"
    sys_version = ""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with the page, one of its files, or a picture."""
        parts = urlsplit(self.path)
        name = parts.path.lstrip("/") or "index.html"
        if not self._may(parse_qs(parts.query).get("token", [""])[0]):
            return
        page = self.server_page
        if name.startswith("picture/") and (picture := page.pictures.get(name[8:])) is not None:
            self._answer(picture, "image/png")
        elif name in ("index.html", "page.js", "page.css"):
            data = (files("boresight.movement") / "page" / name).read_bytes()
            # The page hands its token on to what it loads.
            data = data.replace(b"@TOKEN@", page.token.encode())
            self._answer(data, TYPES[name[name.rindex(".") :]] + "; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Do what the page asks for."""
        if not self._may(self.headers.get("X-Token", "")):
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

    def _may(self, token: str) -> bool:
        """Whether the request is of our page; refuses it else."""
        page = self.server_page
        hosts = {f"{HOST}:{page.port}", f"localhost:{page.port}"}
        origin = self.headers.get("Origin")
        own = self.headers.get("Host") in hosts
        own = own and (origin is None or origin in {f"http://{host}" for host in hosts})
        if not own or not hmac.compare_digest(token.encode(), page.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN)
            return False
        page.heard = time.monotonic()
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
    """Give an 8-bit picture as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
