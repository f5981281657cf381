"""An OCI registry and a Hub on loopback, as far as pushing needs them, and with bad manners on request."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Place(BaseHTTPRequestHandler):
    """What both share: quiet logs, bodies, answers."""

    protocol_version = "HTTP/1.1"
    state: Any

    def log_message(self, *_: object) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: object, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_HEAD(self) -> None:
        self.route()

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD

    def route(self) -> None:
        raise NotImplementedError


class RegistryState:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []
        self.fail: list[int] = []
        """Statuses to answer the next requests with."""
        self.login = ""
        """`user:password`, if wanted."""
        self.refresh = ""
        """A token that may be refreshed instead."""
        self.realm = ""
        self.location = ""
        self.token: bytes | None = None
        """What `/token` answers, whoever asks."""
        self.refusal = b""
        """The body of an answer that refuses."""
        self.seen_passwords: list[str] = []


class RegistryPlace(Place):
    state: RegistryState

    def route(self) -> None:
        state, url = self.state, urlsplit(self.path)
        body = self.body() if self.command in ("POST", "PUT", "PATCH") else b""
        state.asked.append(f"{self.command} {url.path}")
        if url.path == "/token":
            given = self.headers.get("Authorization", "")
            state.seen_passwords.append(given)
            form = parse_qs(body.decode())
            right = given == "Basic " + base64.b64encode(state.login.encode()).decode()
            right |= bool(state.refresh) and form.get("refresh_token") == [state.refresh]
            return (
                self.json({"token": "good" if right else "bad"})
                if state.token is None
                else self.answer(200, state.token)
            )
        if state.refusal:
            return self.answer(400, state.refusal)
        if state.fail:
            return self.json({"errors": [{"message": "not now"}]}, state.fail.pop(0))
        if state.login and self.headers.get("Authorization") != "Bearer good":
            realm = state.realm or f"http://{self.headers['host']}/token"
            return self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="test"')
        self.served(url.path, parse_qs(url.query), body)
        return None

    def served(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        state = self.state
        if path == "/v2/":
            return self.json({})
        match = re.fullmatch(r"/v2/(.+?)/(blobs|manifests)/(.*)", path)
        if match is None:
            return self.answer(404)
        _, kind, last = match.groups()
        if kind == "blobs" and self.command == "POST":
            return self.answer(202, Location=state.location or path + "1?state=x")
        if kind == "blobs" and self.command == "PUT":
            digest = query.get("digest", [""])[0]
            if "sha256:" + hashlib.sha256(body).hexdigest() != digest:
                return self.json({"errors": [{"message": "digest invalid"}]}, 400)
            state.blobs[digest] = body
            return self.answer(201)
        if kind == "blobs":
            return self.answer(200, state.blobs[last]) if last in state.blobs else self.answer(404)
        if self.command == "PUT":
            manifest = json.loads(body)
            for layer in [manifest["config"], *manifest["layers"]]:
                if len(state.blobs.get(layer["digest"], b"")) != layer["size"]:
                    return self.json({"errors": [{"message": "blob unknown"}]}, 404)
            for key in (last, "sha256:" + hashlib.sha256(body).hexdigest()):
                state.manifests[key] = (self.headers["content-type"], body)
            return self.answer(201)
        media_type, data = state.manifests.get(last, ("", b""))
        if not data:
            return self.answer(404)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return self.answer(200, data, Content_Type=media_type, Docker_Content_Digest=digest)


class HubState:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lfs: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.refuse = 0
        self.asked: list[str] = []


class HubPlace(Place):
    state: HubState

    def route(self) -> None:
        body = self.body() if self.command in ("POST", "PUT") else b""
        path, state = urlsplit(self.path).path, self.state
        state.asked.append(f"{self.command} {path}")
        if state.refuse:
            return self.json({"error": "no"}, state.refuse)
        host = f"http://{self.headers['host']}"
        if path == "/api/repos/create":
            state.created.append(json.loads(body))
            return self.json({"url": f"{host}/org/repo", "id": "org/repo"})
        if path.endswith("/preupload/main"):
            return self.json({"files": [self.mode(file) for file in json.loads(body)["files"]]})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            answer = [self.action(host, wanted) for wanted in objects]
            return self.json({"transfer": "basic", "objects": answer})
        if path.startswith("/lfs/"):
            state.lfs[path.removeprefix("/lfs/")] = body
            return self.answer(200)
        if path.endswith("/commit/main"):
            self.commit([json.loads(line) for line in body.splitlines()])
            return self.json({"commitUrl": f"{host}/org/repo/commit/abc", "commitOid": "abc", "success": True})
        if path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        return self.json({"error": f"no route {path}"}, 404)

    def mode(self, file: dict[str, Any]) -> dict[str, Any]:
        lfs = file["path"].endswith((".gguf", ".safetensors"))
        return {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": None}

    def action(self, host: str, wanted: dict[str, Any]) -> dict[str, Any]:
        there = wanted["oid"] in self.state.lfs
        actions = {} if there else {"actions": {"upload": {"href": f"{host}/lfs/{wanted['oid']}"}}}
        return {"oid": wanted["oid"], "size": wanted["size"], **actions}

    def commit(self, lines: list[dict[str, Any]]) -> None:
        for entry in lines:
            value = entry["value"]
            if entry["key"] == "file":
                self.state.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.state.files[value["path"]] = self.state.lfs[value["oid"]]


@contextmanager
def serving(place: type[Place], state: object) -> Iterator[str]:
    """The host and port of a server in a thread."""
    handler = type("Served", (place,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)
