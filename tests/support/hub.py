"""A Hugging Face hub of the tests' own: one model, over HTTP, with faults on request."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" + "0" * 34


class _Hub(ThreadingHTTPServer):
    """Serves `files` by path as model `name`."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], *, name: str, breaks_after: int | None, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.files, self.name, self.breaks_after = files, name, breaks_after

    def handle_error(self, *_: Any) -> None:
        """A client may leave in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, files, name = urlsplit(self.path).path, self.server.files, self.server.name
        if path.startswith(f"/api/models/{name}/tree/"):
            self._json([_row(each, content) for each, content in files.items()])
        elif path.startswith(f"/api/models/{name}"):
            siblings = [{"rfilename": each} for each in files]
            self._json({"id": name, "modelId": name, "sha": self._commit(), "siblings": siblings})
        elif path.startswith(f"/{name}/resolve/") and path.split("/", 5)[5] in files:
            self._file(files[path.split("/", 5)[5]])
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _commit(self) -> str:
        """The commit that is asked for; that of main if none is."""
        asked = re.search(r"/(?:revision|resolve)/([0-9a-f]{40})(?:/|$)", urlsplit(self.path).path)
        return COMMIT if asked is None else asked[1]

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, content: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{_blob_id(content)}"', "X-Repo-Commit": self._commit()}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206 if start else 200, content[start:], headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.server.breaks_after
        self.wfile.write(content[:limit])
        self.close_connection = limit is not None and len(content) > limit

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def hub(directory: Path, *, name: str, breaks_after: int | None = None, port: int = 0) -> Iterator[str]:
    """The URL of a hub that has the files of `directory` as model `name`.

    With `breaks_after`, connections end after that many bytes of a file. By default the port is any free one.
    """
    files = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    with _Hub(files, name=name, breaks_after=breaks_after, port=port) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _row(path: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(content), "oid": _blob_id(content)}


def _blob_id(content: bytes) -> str:
    """As git names a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
