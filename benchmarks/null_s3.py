"""An S3 server that throws away what it is sent, so that an uploader is measured and not a store.

`python -m benchmarks.null_s3` listens on a port of the loopback interface, and prints its URL. Of large objects it
keeps names, sizes and tags only; small ones are kept, and conditions honoured, so that checkpoints can be saved. It
trusts everybody.
"""

import secrets
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["NullS3", "main"]

_KEPT_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class _Object:
    """What is left of an object."""

    size_bytes: int
    data: bytes | None
    tag: str = field(default_factory=lambda: secrets.token_hex(16))
    modified_at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))


class NullS3(ThreadingHTTPServer):
    """The server; its objects are gone with it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, dict[int, int]] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    """One connection, which stays open."""

    protocol_version = "HTTP/1.1"
    server: NullS3
    disable_nagle_algorithm = True
    _buffers: ClassVar[threading.local] = threading.local()

    def log_message(self, *_: object) -> None:
        """Nothing: it would be the measuring of a log."""

    def do_PUT(self) -> None:
        size, data = self._drain()
        if "uploadId" in self._query:
            number = int(self._query["partNumber"][0])
            self.server.uploads[self._query["uploadId"][0]][number] = size
            self._reply(200, headers={"ETag": f'"{secrets.token_hex(16)}"'})
        elif self._key.count("/") == 0:  # a bucket
            self._reply(200)
        else:
            self._store(_Object(size, data))

    def do_POST(self) -> None:
        self._drain()
        if "uploads" in self._query:
            upload_id = secrets.token_hex(8)
            self.server.uploads[upload_id] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        elif "uploadId" in self._query:
            parts = self.server.uploads.pop(self._query["uploadId"][0], {})
            self._store(_Object(sum(parts.values()), None), is_complete=True)
        else:  # to delete many objects: nobody who is measured looks at the answer
            self._xml("DeleteResult", "")

    def do_GET(self) -> None:
        self._drain()
        if "uploads" in self._query:
            self._xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")
        elif self._key.count("/") == 0:
            self._list()
        else:
            self._give(with_body=True)

    def do_HEAD(self) -> None:
        self._drain()
        if self._key.count("/") == 0:
            self._reply(200)
        else:
            self._give(with_body=False)

    def do_DELETE(self) -> None:
        self._drain()
        if "uploadId" in self._query:
            self.server.uploads.pop(self._query["uploadId"][0], None)
        else:
            self.server.objects.pop(self._key, None)
        self._reply(204)

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/")

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)

    def _drain(self) -> tuple[int, bytes | None]:
        """Reads the body; its size, and its content if that is small."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._drain_chunks()
        left = size = int(self.headers.get("Content-Length", 0))
        if size <= _KEPT_BYTES:
            return size, self.rfile.read(size)
        buffer = getattr(self._buffers, "view", None)
        if buffer is None:
            buffer = self._buffers.view = memoryview(bytearray(_BUFFER_BYTES))
        while left:
            left -= self.rfile.readinto(buffer[: min(left, _BUFFER_BYTES)])
        return size, None

    def _drain_chunks(self) -> tuple[int, bytes | None]:
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        data = b"".join(chunks)
        return len(data), data

    def _store(self, found: _Object, *, is_complete: bool = False) -> None:
        wanted = self.headers.get("If-Match")
        with self.server.lock:
            before = self.server.objects.get(self._key)
            is_refused = before is not None and self.headers.get("If-None-Match") is not None
            is_refused |= wanted is not None and (before is None or wanted.strip('"') != before.tag)
            if not is_refused:
                self.server.objects[self._key] = found
        if is_refused:
            self._xml("Error", "<Code>PreconditionFailed</Code><Message>It does not hold.</Message>", status=412)
        elif is_complete:
            self._xml("CompleteMultipartUploadResult", f"<ETag>&quot;{found.tag}&quot;</ETag>")
        else:
            self._reply(200, headers={"ETag": f'"{found.tag}"'})

    def _give(self, *, with_body: bool) -> None:
        found = self.server.objects.get(self._key)
        if found is None:
            body = "<Code>NoSuchKey</Code><Message>There is no such key.</Message>" if with_body else ""
            self._xml("Error", body, status=404)
            return
        modified_at = datetime.fromisoformat(found.modified_at).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"ETag": f'"{found.tag}"', "Last-Modified": modified_at}
        if self.headers.get("If-None-Match", "").strip('"') == found.tag:
            self._reply(304, headers=headers)
        elif with_body:
            self._reply(200, found.data if found.data is not None else bytes(found.size_bytes), headers=headers)
        else:
            self._reply(200, headers={**headers, "Content-Length": str(found.size_bytes)})

    def _list(self) -> None:
        bucket = self._key
        prefix = self._query.get("prefix", [""])[0]
        delimiter = self._query.get("delimiter", [""])[0]
        folders, contents = set(), []
        with self.server.lock:
            found = sorted(self.server.objects.items())
        for key, each in found:
            name = key.removeprefix(f"{bucket}/")
            if not key.startswith(f"{bucket}/{prefix}"):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            contents.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{each.size_bytes}</Size><ETag>&quot;{each.tag}&quot;</ETag>"
                f"<LastModified>{each.modified_at}</LastModified></Contents>"
            )
        common = [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)]
        self._xml("ListBucketResult", "<IsTruncated>false</IsTruncated>" + "".join([*contents, *common]))

    def _xml(self, element: str, body: str, *, status: int = 200) -> None:
        text = f'<?xml version="1.0" encoding="UTF-8"?><{element} {_NAMESPACE}>{body}</{element}>'
        self._reply(status, text.encode() if self.command != "HEAD" else b"")

    def _reply(self, status: int, body: bytes = b"", *, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serves until the standard input ends."""
    server = NullS3()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.url, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
