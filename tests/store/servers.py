"""A Hub, a registry and a plain web server on loopback, honest unless told otherwise."""

import hashlib
import json
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
CHUNK = 1 << 14


class Site:
    """Files by path. `faults` are asked before each answer; one that returns True has answered."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.redirects: dict[str, str] = {}
        self.faults: list[Callable[[Handler], bool]] = []
        self.sent: Counter[str] = Counter()
        self.counting = threading.Lock()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.repos: dict[str, Repo] = {}
        self.ranges = True
        self.pause: Callable[[], object] = lambda: None
        """Called before each chunk."""
        self.url = ""

    def add(self, path: str, data: bytes, **headers: str) -> str:
        self.files[path] = data
        self.headers[path] = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.url + path

    def fault(self, pattern: str, answer: Callable[["Handler"], Any], times: int = 1 << 30) -> None:
        """Answer the first `times` requests for paths that match in this way."""
        left = [times]

        def apply(handler: Handler) -> bool:
            if not left[0] or not re.search(pattern, handler.path):
                return False
            left[0] -= 1
            answer(handler)
            return True

        self.faults.append(apply)

    @property
    def total(self) -> int:
        """Bytes of files that were sent."""
        return sum(self.sent.values())


class Repo:
    """A repository as the Hub has it."""

    def __init__(self, files: dict[str, bytes], licence: str = "apache-2.0", oid: str = "1") -> None:
        self.files, self.licence, self.oid = files, licence, oid
        self.commit, self.gated, self.id = COMMIT, "", ""
        self.digests: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.cdn = ""

    def lfs(self, name: str) -> dict[str, Any] | None:
        if not name.endswith((".gguf", ".safetensors")):
            return None
        digest = self.digests.get(name) or hashlib.sha256(self.files[name]).hexdigest()
        return {"sha256": digest, "oid": digest, "size": self.size(name), "pointerSize": 134}

    def size(self, name: str) -> int:
        return self.sizes.get(name, len(self.files[name]))

    def git(self, name: str) -> str:
        data = self.files[name] if self.lfs(name) is None else b"pointer"
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site
    server: ThreadingHTTPServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.site.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if any(fault(self) for fault in self.site.faults):
            return
        path = unquote(urlsplit(self.path).path)
        if path in self.site.redirects:
            self.answer(302, location=self.site.redirects[path])
        elif path in self.site.files:
            self.file(path, self.site.files[path], self.site.headers[path])
        else:
            self.hub(path)

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        self.site.asked.append((self.command, self.path, {}))
        self.answer(403)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, **headers: str) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def file(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.site.ranges else None
        begin, end = 0, len(data)
        if match:
            begin, end = int(match[1]), min(len(data), int(match[2] or len(data)) + 1)
            if begin >= len(data):
                self.answer(416, Content_Range=f"bytes */{len(data)}")
                return
        self.send_response(206 if match else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if match:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        for at in range(begin, end if self.command != "HEAD" else begin, CHUNK):
            self.site.pause()
            chunk = data[at : min(end, at + CHUNK)]
            with self.site.counting:  # before it can arrive, so that whoever has it finds it counted
                self.site.sent[path] += len(chunk)
            self.wfile.write(chunk)

    def hub(self, path: str) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self.api(found[1], found[2], found[3] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(found[1], found[3])
        else:
            self.answer(404, X_Error_Code="RepoNotFound")

    def api(self, name: str, verb: str | None, revision: str) -> None:
        repo = self.site.repos.get(name)
        if repo is None:
            self.answer(401, X_Error_Code="RepoNotFound")
        elif revision not in ("main", repo.commit):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif repo.gated and self.headers.get("Authorization") != f"Bearer {repo.gated}":
            self.answer(403, X_Error_Code="GatedRepo")
        elif verb == "tree":
            self.json([{"type": "file", "path": file, "size": repo.size(file), "oid": repo.git(file),
                        "lfs": repo.lfs(file)} for file in repo.files])  # fmt: skip
        else:
            siblings = [{"rfilename": file, "size": repo.size(file), "blobId": repo.git(file), "lfs": repo.lfs(file)}
                        for file in repo.files]  # fmt: skip
            self.json({"_id": repo.oid, "id": repo.id or name, "modelId": repo.id or name, "sha": repo.commit,
                       "private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings,
                       "cardData": {"license": repo.licence}})  # fmt: skip

    def resolve(self, name: str, file: str) -> None:
        repo = self.site.repos.get(name)
        if repo is None or file not in repo.files:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=repo.commit if repo else "")
            return
        lfs, data = repo.lfs(file), repo.files[file]
        etag = lfs["sha256"] if lfs else repo.git(file)
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"'}
        if repo.cdn and self.command == "GET":
            self.answer(302, location=f"{repo.cdn}/{name}/{file}", X_Repo_Commit=repo.commit)
        else:
            self.file(f"/{name}/{file}", data, {**headers, "X-Linked-Size": str(len(data))})


@contextmanager
def serving(secure: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A server of its own on a free port."""
    site = Site()
    handler = type("Bound", (Handler,), {"site": site})

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that was killed

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().server_bind()

    server = Server(("127.0.0.1", 0), handler)
    if secure:
        server.socket = secure.wrap_socket(server.socket, server_side=True)
    site.url = f"http{'s' if secure else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def registry(site: Site, name: str, tag: str, layers: dict[str, bytes], **wrong: Any) -> None:
    """Put a model into the site as Ollama's registry has it. Keys of `layers` are the ends of media types."""
    rows = []
    for kind, data in layers.items():
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        site.add(f"/v2/{name}/blobs/{digest}", data)
        media = f"application/vnd.ollama.image.{kind.partition('#')[0]}"
        rows.append({"mediaType": media, "digest": digest, "size": len(data), **wrong})
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 2},
        "layers": rows,
    }
    data = json.dumps(manifest).encode()
    for reference in (tag, f"sha256:{hashlib.sha256(data).hexdigest()}"):
        site.add(f"/v2/{name}/manifests/{reference}", data)
