"""Serves a sweep's report on this machine and rebuilds it while the sweep runs."""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from kdas.errors import UserError
from sweeps.command import progress_page
from sweeps.command.options import another_port, check_port
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import sweep_path

HOST = "127.0.0.1"
# The only files of the sweep's folder that are served.
_PAGES = {"report.html": "text/html", "report.md": "text/markdown", "summary.csv": "text/csv"}
# Names of this machine, with any port, since a tunnel has its own. A page from elsewhere whose name leads here, so that
# it can read the report, is refused.
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
# No other page may show ours in a frame, where a click could be meant for something else.
_NO_FRAME = "frame-ancestors 'none'"
_SERVED = re.compile(rf"(cells/\w[\w.-]*/)?({'|'.join(map(re.escape, _PAGES))})")
# Of a request to change something.
_MOST_BYTES = 4096
# On every report.
_LINK = b'<p style="position:fixed;right:1rem;bottom:.5rem;margin:0"><a href="/status">progress and controls</a></p>'
# The page polls the report's age and reloads when it changes; the browser keeps the scroll position.
_ASKS = b"""<script>
(() => {
  let age = null;
  setInterval(async () => {
    try {
      const now = await (await fetch("/age", { cache: "no-store" })).text();
      if (age !== null && now !== age) location.reload();
      age = now;
    } catch { /* the server is gone; keep the page */ }
  }, 2000);
})();
</script>"""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, folder: Path, token: str, *args: object) -> None:
        self._folder, self._token = folder, token
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if not _LOCAL.fullmatch(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        name = self.path.partition("?")[0].lstrip("/") or "report.html"
        path = self._folder / name
        if name == "age":
            reports = [self._folder / "report.html", *self._cells()]
            times = [report.stat().st_mtime_ns for report in reports if report.is_file()]
            self._send(str(max(times, default=0)).encode(), "text/plain")
        elif name == "progress":
            self._send(progress_page.progress(self._folder).encode(), "text/html")
        elif name == "status" or (name == "report.html" and not path.is_file()):
            nonce = secrets.token_urlsafe(16)
            policy = f"default-src 'self'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'"
            self._send(progress_page.page(self._folder, nonce).encode(), "text/html", f"{policy}; {_NO_FRAME}")
        elif _SERVED.fullmatch(name) and path.is_file():
            content = path.read_bytes()
            self._send(content + _LINK + _ASKS if path.suffix == ".html" else content, _PAGES[path.name])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not _LOCAL.fullmatch(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != "/ask":
            self.send_error(HTTPStatus.NOT_FOUND)
        elif not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > _MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._answer(parse_qs(self.rfile.read(int(length)).decode("latin-1"), errors="replace"))

    def _answer(self, form: Mapping[str, Sequence[str]]) -> None:
        """Do what a form asks, if it has the token."""
        token, what = ((form.get(key) or [""])[0] for key in ("token", "what"))
        if not hmac.compare_digest(token.strip().encode(errors="replace"), self._token.encode()):
            self._send(b"Wrong token. The terminal of make watch shows it.", "text/plain", status=HTTPStatus.FORBIDDEN)
            return
        try:
            said, status = progress_page.ask(self._folder, what), HTTPStatus.OK
        except UserError as error:
            said, status = str(error), HTTPStatus.CONFLICT
        self._send(said.encode(), "text/plain", status=status)

    def _cells(self) -> list[Path]:
        return sorted(self._folder.glob("cells/*/report.html"))

    def _send(self, content: bytes, kind: str, policy: str = _NO_FRAME, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Requests are not logged."""

    def log_error(self, *args: object) -> None:
        """Neither are missing pages."""


def server_of(folder: Path, port: int, token: str | None = None) -> ThreadingHTTPServer:
    """A server of a sweep's report, for this machine only.

    Args: token: who has it may change what the sweep does; None: nobody may.
    Raises: UserError: if the port is taken or invalid.
    """
    check_port(port)
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, folder.resolve(), token or secrets.token_urlsafe()))
    except OSError as error:
        raise UserError(f"PORT={port}: cannot be opened ({error.strerror}). Try PORT={another_port(port)}.") from error


def watch(name: str, port: int, build: Callable[[], None]) -> None:
    """Serve the report of a sweep, and rebuild it while the sweep runs. Ctrl-C ends it.

    Args: build: builds the report from what is on disk.
    """
    folder = sweep_path(name)
    token = secrets.token_urlsafe(12)
    server = server_of(folder, port, token)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{name}: http://{HOST}:{server.server_port} (Ctrl-C closes it)", flush=True)
    print(f"To pause, stop or finish from that page, give this token there: {token}", flush=True)
    try:
        follow(folder, build)
        print(f"{name}: finished. The report no longer changes.", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
    finally:
        server.shutdown()
        server.server_close()


def follow(folder: Path, build: Callable[[], None], pause_s: float = 5.0) -> None:
    """Rebuild while the sweep runs, at most a quarter of the time, and once more when it has ended."""
    runs = True
    while runs:
        runs = bool(holder(folder))
        began = time.monotonic()
        if SweepDirectory(folder).spec_file.exists():  # before, the sweep is still preparing
            build()
        if runs:
            time.sleep(max(pause_s, 3 * (time.monotonic() - began)))


def has_begun(folder: Path) -> bool:
    """Whether there is a sweep to watch; one that is still preparing counts."""
    return SweepDirectory(folder).spec_file.exists() or bool(holder(folder))


def holder(folder: Path) -> str:
    """The process that runs the sweep or one of its cells, in words; empty if there is none."""
    directory = SweepDirectory(folder)
    return next(filter(None, (each.holder() for each in [directory, *directory.cells()])), "")
