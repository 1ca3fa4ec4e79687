"""The page of runs that go on, served to this machine alone by the standard library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

HERE = "127.0.0.1"


class Live:
    """What the page is told now, made again only where a run's folder has changed."""

    def __init__(self, stores: Sequence[Any], command: str) -> None:
        self.stores, self.command = stores, command
        self._mark, self._told = "", {}

    def told(self) -> tuple[str, dict[str, Any]]:
        """(mark of what the folders hold, what the page is told)."""
        from simulator import GenlossError
        from simulator.report.web import told

        mark = self.mark()
        if mark != self._mark:
            try:
                found = told.of_runs(self.stores, command=self.command)
                found["state"] = f"{found['generations']} generations so far"
            except GenlossError as error:  # no generation is done yet
                found = told.waiting(", ".join(store.path.name for store in self.stores), str(error), self.command)
            self._mark, self._told = mark, found
        return mark, self._told

    def mark(self) -> str:
        """Of the times and sizes of what a page is made of."""
        total = hashlib.sha256()
        for store in self.stores:
            names = ("records.parquet", "ceiling.json", "theory.json", "samples", "checkpoints")
            for file in (store.path / name for name in names):
                there = file.stat() if file.exists() else None
                total.update(f"{file}{there and (there.st_mtime_ns, there.st_size)}".encode())
        return total.hexdigest()[:32]


class Server(HTTPServer):
    """On the loopback address; `live` is what its pages show."""

    def __init__(self, live: Live, port: int = 0) -> None:
        super().__init__((HERE, port), Handler)
        self.live = live


class Handler(BaseHTTPRequestHandler):
    """/ is the page and /told.json what it is told; a name of this machine that others gave it is refused."""

    timeout = 10  # seconds of a client that says nothing
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        from simulator.report.web import filled

        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HERE}:{port}", f"localhost:{port}"):
            self._answer(403, b"", "text/plain")
        elif self.path == "/":
            self._answer(200, filled.page(self.server.live.told()[1], live=True).encode(), "text/html; charset=utf-8")
        elif self.path == "/told.json":
            mark, told = self.server.live.told()
            if self.headers.get("If-None-Match") == f'"{mark}"':
                self._answer(304, b"", "application/json", mark)
            else:
                self._answer(200, filled.in_script(told).encode(), "application/json", mark)
        else:
            self._answer(404, b"", "text/plain")

    def _answer(self, code: int, body: bytes, kind: str, mark: str | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if mark is not None:
            self.send_header("ETag", f'"{mark}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def serve(stores: Sequence[Any], command: str, port: int) -> None:
    """Serves until it is interrupted, and says where."""
    from simulator import GenlossError

    try:
        server = Server(Live(stores, command), port)
    except OSError as error:
        raise GenlossError(f"Port {port} cannot be used ({error.strerror}); choose another, or leave it out.") from None
    with server:
        print(f"http://{HERE}:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        server.serve_forever()
