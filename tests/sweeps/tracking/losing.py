"""A proxy that loses a server's answers: the server has done what it was asked, and nobody hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Loses = Callable[[str, int], bool]


class Proxy(ThreadingHTTPServer):
    """Passes requests on. `loses` is asked with each request's path and number, after the server has answered."""

    daemon_threads = True

    def __init__(self, server_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_port_behind = server_port
        self.loses: Loses = lambda path, number: False
        self.requests: list[str] = []
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, address: object) -> None:
        """The server behind is dead, or the client has gone: the client finds out by itself."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = HTTPConnection("127.0.0.1", self.server.server_port_behind, timeout=120)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        path = self.path.partition("?")[0].partition("/mlflow/")[2]
        with self.server.lock:
            self.server.requests.append(path)
            is_lost = self.server.loses(path, len(self.server.requests))
        if is_lost:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("content-type", "www-authenticate"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def proxy_before(server_port: int) -> Iterator[Proxy]:
    proxy = Proxy(server_port)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
