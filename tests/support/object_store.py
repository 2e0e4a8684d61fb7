"""Servers of this machine that inputs and outputs at URLs are tried on: S3's interface, and the web."""

import http.server
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.redis_server import free_port

KEYS = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of moto's server, in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = "from moto.server import main; main()"
    arguments = [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _answers(f"{url}/moto-api/"):
                assert server.poll() is None, "the S3 server ended"
                time.sleep(0.1)
            yield url
        finally:
            server.kill()


@contextmanager
def google_server(bucket: str) -> Iterator[str]:
    """The query of URLs that leads to a stand-in for Google Cloud Storage with one bucket."""
    port = free_port()
    program = "from gcp_storage_emulator.__main__ import main; main()"
    options = ["start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", bucket]
    arguments = [sys.executable, "-c", program, *options]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _answers(f"http://127.0.0.1:{port}/storage/v1/b/{bucket}"):
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
            yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true"
        finally:
            server.kill()


@contextmanager
def checked_credentials(url: str) -> Iterator[None]:
    """Meanwhile the S3 server refuses credentials that it does not know: all of them."""
    _set_free_calls(url, 0)
    try:
        yield
    finally:
        _set_free_calls(url, 1_000_000)


@contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """The address of a server of these files that answers ranges, and 403 to a path with "secret"."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            path = directory / self.path.partition("?")[0].lstrip("/")
            if "secret" in self.path or not path.is_file():
                self.send_error(403 if "secret" in self.path else 404)
                return
            body, status = path.read_bytes(), 200
            size = len(body)
            wanted = self.headers.get("Range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                body, status = body[int(first) : int(last or size) + 1], 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{size}")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def _set_free_calls(url: str, number: int) -> None:
    headers = {"Content-Type": "text/plain"}
    address, body = f"{url}/moto-api/reset-auth", str(number).encode()
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=5):
        pass
