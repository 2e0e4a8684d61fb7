"""The host's HTTP endpoint: metrics for Prometheus, health for whoever probes."""

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
from worker.supervisor.collector import HostCollector

log = structlog.stdlib.get_logger(__name__)

_SILENT_PEER_S = 10.0


@contextmanager
def endpoint(vitals: HostCollector, *, host: str, port: int) -> Iterator[int]:
    """Answer on that address as long as the block lasts; the port, which the system chooses if it is 0.

    Raises SettingsError if the address is taken or not ours.
    """
    try:
        server = _Server(host, port, vitals)
    except OSError as error:
        raise SettingsError(
            f"no metrics on {host} port {port}: {error.strerror}; "
            "set EMBEDMILL_METRICS_PORT and EMBEDMILL_METRICS_HOST to an address that is free"
        ) from error
    with server:
        threading.Thread(target=server.serve_forever, name="embedmill-endpoint", daemon=True).start()
        taken: int = server.server_address[1]
        log.info("metrics", host=host, port=taken)
        try:
            yield taken
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, vitals: HostCollector) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.vitals = vitals
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Without asking DNS for our name, which may take its time and is never told."""
        TCPServer.server_bind(self)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SILENT_PEER_S
    server_version = "embedmill"
    sys_version = ""

    def do_GET(self) -> None:
        """Routes as Kubernetes, NIM (`/v1/...`), TEI and vLLM (`/health`) name them."""
        routes: dict[str, Callable[[], None]] = {
            "/metrics": self._metrics,
            "/health": self._ready,
            "/health/ready": self._ready,
            "/health/live": self._live,
        }
        path = self.path.partition("?")[0]
        answer = routes.get(path.removeprefix("/v1"))
        if answer is None:
            self._send(
                404, "text/plain; charset=utf-8", b"no such page; there is " + " ".join(routes).encode()
            )
        else:
            answer()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Probes are no news."""
        log.debug("http", request=format % args)

    def _metrics(self) -> None:
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._send(200, content_type, encode(self.server.vitals))

    def _live(self) -> None:
        states = self.server.vitals.states()
        self._health(all(state in ("hung", "silent") for state in states.values()), "live", states)

    def _ready(self) -> None:
        states = self.server.vitals.states()
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
