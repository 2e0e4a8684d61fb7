"""The HTTP server of the supervisor: metrics for Prometheus, health for probes."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

import structlog
from prometheus_client.exposition import choose_encoder

from producer.errors import SettingsError
from worker.supervisor.collector import SupervisorCollector

log = structlog.stdlib.get_logger(__name__)

_SILENT_CLIENT_S = 10.0


@contextmanager
def serve_http(collector: SupervisorCollector, *, host: str, port: int) -> Iterator[int]:
    """Serve on this address within the block; yields the port, which the system chooses if `port` is 0.

    Raises SettingsError if the address is taken or is not one of this machine.
    """
    try:
        server = _Server(host, port, collector)
    except OSError as error:
        raise SettingsError(
            f"cannot serve metrics on {host} port {port}: {error.strerror}; "
            "set EMBEDMILL_METRICS_HOST and EMBEDMILL_METRICS_PORT to a free address of this machine"
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, name="embedmill-http", daemon=True).start()
        bound_port: int = server.server_address[1]
        log.info("metrics_served", host=host, port=bound_port)
        try:
            yield bound_port
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, collector: SupervisorCollector) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.collector = collector
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Skip HTTPServer's look-up of our host name: it can be slow, and nothing uses the name."""
        TCPServer.server_bind(self)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SILENT_CLIENT_S
    server_version = "embedmill"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer on the paths that Kubernetes, NIM (`/v1/...`), TEI and vLLM (`/health`) use."""
        routes: dict[str, Callable[[], None]] = {
            "/metrics": self._metrics,
            "/health": self._ready,
            "/health/ready": self._ready,
            "/health/live": self._live,
        }
        path = self.path.partition("?")[0]
        respond = routes.get(path.removeprefix("/v1"))
        if respond is None:
            self._send(404, "text/plain; charset=utf-8", f"not found; try {' '.join(routes)}\n".encode())
        else:
            respond()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Log requests at DEBUG: probes come every few seconds."""
        log.debug("http_request", request=format % args)

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(200, content_type, encode(self.server.collector))

    def _live(self) -> None:
        states = self.server.collector.states()
        self._health(all(state in ("hung", "silent") for state in states.values()), "live", states)

    def _ready(self) -> None:
        states = self.server.collector.states()
        self._health("serving" not in states.values(), "ready", states)

    def _health(self, failed: bool, word: str, states: dict[str, str]) -> None:
        message = f"not {word}" if failed else word
        body = {"object": "health.response", "message": message, word: not failed, "workers": states}
        self._send(503 if failed else 200, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
