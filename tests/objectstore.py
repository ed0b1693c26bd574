"""An object store on this machine that speaks as much of S3 as a history needs: objects in memory, no signatures."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUCKET = "bucket"
_PUTS = "/puts"


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    objects: dict[str, bytes]
    puts: list[str]
    uploads: dict[str, dict[int, bytes]]
    lock: threading.Lock

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").removeprefix("/")

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self._key()
        query = parse_qs(urlsplit(self.path).query)
        if "uploadId" in query:
            self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._answer(200, ETag=_etag(body))
            return
        with self.lock:
            # A commit is an object that must not be there yet: who is second is told so.
            if self.headers.get("If-None-Match") == "*" and key in self.objects:
                self._refuse(412, "PreconditionFailed")
                return
            self.objects[key] = body
            self.puts.append(key)
        self._answer(200, ETag=_etag(body))

    def do_HEAD(self) -> None:
        body = self.objects.get(self._key())
        if body is None:
            self._answer(404)
            return
        headers = {"ETag": _etag(body), "Content_Length": str(len(body)), "Last_Modified": _DATE}
        self._answer(200, **headers)

    def do_GET(self) -> None:
        if self.path == _PUTS:
            self._answer(200, json.dumps(self.puts).encode())
            return
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query.get("prefix", [""])[0], query.get("delimiter", [""])[0], query.get("start-after", [""])[0])
            return
        body = self.objects.get(self._key())
        if body is None:
            self._refuse(404, "NoSuchKey")
            return
        headers = {"ETag": _etag(body), "Last_Modified": _DATE}
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted:
            self._answer(200, body, **headers)
            return
        first, _, last = wanted.partition("-")
        start = int(first) if first else max(len(body) - int(last), 0)
        end = min(int(last) + 1, len(body)) if first and last else len(body)
        self._answer(206, body[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(body)}", **headers)

    def _list(self, prefix: str, delimiter: str, after: str) -> None:
        found, folders = [], set()
        with self.lock:
            listed = sorted(self.objects.items())
        for key, body in listed:
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{_ISO}</LastModified>"
                f"<ETag>{escape(_etag(body))}</ETag><Size>{len(body)}</Size></Contents>"
            )
        common = [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
        text = "".join([*found, *common])
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{text}</ListBucketResult>".encode())

    def do_DELETE(self) -> None:
        self.objects.pop(self._key(), None)
        self._answer(204)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploads" in query:
            upload = secrets.token_hex(8)
            self.uploads[upload] = {}
            self._answer(200, _xml("InitiateMultipartUploadResult", Bucket=BUCKET, Key=self._key(), UploadId=upload))
            return
        if "uploadId" in query:
            parts = self.uploads.pop(query["uploadId"][0])
            content = b"".join(parts[number] for number in sorted(parts))
            with self.lock:
                self.objects[self._key()] = content
                self.puts.append(self._key())
            self._answer(200, _xml("CompleteMultipartUploadResult", Key=self._key(), ETag=_etag(content)))
            return
        # Deletes several at once.
        keys = [unescape(key) for key in re.findall("<Key>([^<]*)</Key>", body.decode())]
        for key in keys:
            self.objects.pop(key, None)
        gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


_DATE, _ISO = "Thu, 01 Jan 2026 00:00:00 GMT", "2026-01-01T00:00:00.000Z"


def _xml(name: str, **entries: str) -> bytes:
    told = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in entries.items())
    return f"<{name}>{told}</{name}>".encode()


def _etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@contextmanager
def object_store() -> Iterator[tuple[dict[str, str], Callable[[], list[str]]]]:
    """Serve a bucket; gives the options that lead to it, and what tells the keys of the objects that were put there.

    From a program of its own: some calls of the client hold Python's lock while they wait for an answer.
    """
    with subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        address = f"http://127.0.0.1:{int(served.stdout.readline())}"
        options = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "canary",
            "max_retries": "2",
            "retry_timeout": "20s",
        }

        def puts() -> list[str]:
            return list(requests.get(f"{address}{_PUTS}", timeout=10).json())

        try:
            yield options, puts
        finally:
            served.kill()


def main() -> None:
    """Serve until killed; the first line is the port."""
    parts = {"objects": {}, "puts": [], "uploads": {}, "lock": threading.Lock()}
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), parts))
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
