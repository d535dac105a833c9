"""A server that answers what huggingface_hub and caskit ask of the Hugging Face Hub, and a second one for large files.

Made after the requests of huggingface_hub 2.4: repositories with commits in memory; tars, Parquet and files over 4096
bytes are LFS objects at the other port, reached by redirects and by signed addresses. Rules break requests.
"""

import base64
import collections
import dataclasses
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_ThisTokenIsASecret"
SIGNATURE = "signed-by-nobody"
PAGE = 5  # entries of a page of a list
LFS = (".tar", ".parquet", ".bin", ".npy")
Tree = dict[str, tuple[str, str]]  # path -> ("lfs" or "git", id of the bytes)


@dataclasses.dataclass
class Rule:
    """What goes wrong with `left` requests of a method whose path has a text in it, after `after` such requests."""

    fault: str
    method: str
    part: str
    left: int = 1
    after: int = 0
    pid: int = 0


class FakeHub:
    """Answers at `url`; large files are at `cdn`. `seen` has what was asked: server, method, path, Authorization."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}  # by id, of git or of LFS
        self.repositories: dict[str, dict[str, list[str]]] = {}  # name -> branch -> commits
        self.private: set[str] = set()
        self.trees: dict[str, Tree] = {}  # by commit
        self.rules: list[Rule] = []
        self.seen: list[tuple[str, str, str, str]] = []  # server, method, path, authorization
        self.ignored: set[str] = set()
        self.odd: dict[str, bytes] = {}  # what is answered, whatever is asked, by a part of the path
        self.done: collections.Counter[str] = collections.Counter()
        self.checks_uploads = True
        self.lock = threading.RLock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, which)) for which in ("hub", "cdn")]
        for server in self._servers:
            server.daemon_threads = True
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> "FakeHub":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def break_next(self, fault: str, method: str, part: str, **how: int) -> Rule:
        """Add a rule: `503`, `500`, `429`, `400`, `reset`, `lost-answer`, `wrong-bytes`, `short`, `html`, `kill`."""
        self.rules.append(Rule(fault, method, part, **how))
        return self.rules[-1]

    def make(self, name: str, *, private: bool = False) -> None:
        """Make a repository as the Hub does: with one commit."""
        self.repositories[name] = {"main": []}
        if private:
            self.private.add(name)
        self.add(name, {".gitattributes": b"*.tar filter=lfs"}, message="initial")

    def add(self, name: str, files: dict[str, bytes], *, branch: str = "main", message: str = "by hand") -> str:
        """Commit files."""
        return self._commit(name, branch, {path: self._keep(path, data) for path, data in files.items()}, message)

    def head(self, name: str, branch: str = "main") -> str:
        return self.repositories[name][branch][-1]

    def files(self, name: str, commit: str | None = None) -> dict[str, bytes]:
        """All files of a commit, the newest one if none is named."""
        return {path: self.objects[oid] for path, (_, oid) in self.trees[commit or self.head(name)].items()}

    def _keep(self, path: str, data: bytes) -> tuple[str, str]:
        oid = hashlib.sha256(data).hexdigest() if _is_lfs(path, len(data)) else _git_id(data)
        self.objects[oid] = data
        return ("lfs" if len(oid) == 64 else "git"), oid

    def _commit(self, name: str, branch: str, changes: Tree, message: str) -> str:
        commits = self.repositories[name][branch]
        tree = {**(self.trees[commits[-1]] if commits else {}), **changes}
        commit = hashlib.sha1(f"{name} {branch} {len(commits)} {message} {sorted(tree.items())}".encode()).hexdigest()
        self.trees[commit] = tree
        commits.append(commit)
        return commit

    def revision(self, name: str, text: str) -> str | None:
        """The commit of a branch or a commit."""
        branches = self.repositories[name]
        if text in branches:
            return branches[text][-1]
        return text if text in self.trees else None


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_lfs(path: str, size: int) -> bool:
    return size > 4096 or (path.endswith(LFS) and size > 0)


def _handler(hub: FakeHub, which: str) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        server_hub, server_name = hub, which

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: FakeHub
    server_name: str

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def serve(self) -> None:
        hub, self.split = self.server_hub, urlsplit(self.path)
        self.body = self._body()
        token = self.headers.get("Authorization") or ""
        with hub.lock:
            hub.seen.append((self.server_name, self.command, self.path, token))
            fault = self._fault()
            if fault in ("429", "500", "503", "400"):
                return self._send(int(fault), b"the server repeats " + token.encode() + self.path.encode())
            if fault == "html":
                return self._send(200, b"<html>a proxy's page</html>", {"Content-Type": "text/html"})
            if fault == "reset":
                return self._drop()
            for part, answer in hub.odd.items():
                if part in self.path:
                    return self._send(200, answer)
            self.mute = fault == "lost-answer"
            self.spoil = fault if fault in ("wrong-bytes", "short") else ""
            if self.server_name == "cdn":
                return self._storage()
            return self._route()

    do_GET = do_HEAD = do_PUT = do_POST = serve  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _fault(self) -> str:
        for rule in self.server_hub.rules:
            if rule.left and rule.method == self.command and rule.part in self.path:
                if rule.after:
                    rule.after -= 1
                    continue
                rule.left -= 1
                self.server_hub.done[rule.fault] += 1
                if rule.fault == "kill":
                    os.kill(rule.pid, signal.SIGKILL)
                    return "reset"
                return rule.fault
        return ""

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        if getattr(self, "mute", False):
            self._drop()
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str) -> None:
        self._send(status, json.dumps({"error": f"no: {self.path}"}).encode(), {"X-Error-Code": code})

    def _allowed(self, name: str, *, write: bool) -> bool:
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not known and (write or name in self.server_hub.private or name not in self.server_hub.repositories):
            self._send(401, b'{"error": "Invalid username or password."}')
            return False
        if name not in self.server_hub.repositories:
            self._error(404, "RepoNotFound")
            return False
        return True

    def _route(self) -> None:
        parts = [unquote(part) for part in self.split.path.strip("/").split("/")]
        if parts == ["api", "repos", "create"]:
            return self._create()
        if parts == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if parts[:2] == ["api", "datasets"]:
            name, what, rest = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision", parts[5:]
            if not self._allowed(name, write=what in ("preupload", "commit")):
                return None
            revision = rest[0] if rest else "main"
            commit = self.server_hub.revision(name, revision)
            if commit is None:
                return self._error(404, "RevisionNotFound")
            answers: dict[str, Callable[..., None]] = {
                "revision": lambda: self._json({"id": name, "sha": commit}),
                "tree": lambda: self._tree(commit, "/".join(rest[1:])),
                "paths-info": lambda: self._paths_info(commit),
                "preupload": lambda: self._preupload(commit),
                "commit": lambda: self._commit(name, revision, commit),
            }
            return answers[what]()
        if parts[0] == "datasets" and parts[2].endswith(".git"):
            name = f"{parts[1]}/{parts[2].removesuffix('.git')}"
            return self._batch() if self._allowed(name, write=True) else None
        if parts[0] == "datasets" and parts[3] == "resolve":
            return self._resolve("/".join(parts[1:3]), parts[4], "/".join(parts[5:]))
        return self._send(404)

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, b"{}")
        if name in self.server_hub.repositories:
            return self._send(409, b"{}")
        self.server_hub.make(name, private=asked.get("private", asked.get("visibility") == "private"))
        return self._json({"url": f"{self.server_hub.url}/datasets/{name}"})

    def _described(self, path: str, kind: str, oid: str) -> dict[str, Any]:
        size = len(self.server_hub.objects[oid])
        found: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": oid}
        if kind == "lfs":
            found |= {"oid": _git_id(oid.encode()), "lfs": {"oid": oid, "size": size, "pointerSize": 134}}
        return found

    def _tree(self, commit: str, folder: str) -> None:
        tree, start = self.server_hub.trees[commit], f"{folder}/" if folder else ""
        paths = sorted(path for path in tree if path.startswith(start))
        if folder and not paths:
            return self._error(404, "EntryNotFound")
        folders = sorted({path.rpartition("/")[0] for path in paths} - {folder})
        entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        entries += [self._described(path, *tree[path]) for path in paths]
        at = int(parse_qs(self.split.query).get("cursor", ["0"])[0])
        more = {}
        if at + PAGE < len(entries):
            more["Link"] = f'<{self.server_hub.url}{self.split.path}?recursive=true&cursor={at + PAGE}>; rel="next"'
        return self._json(entries[at : at + PAGE], more)

    def _paths_info(self, commit: str) -> None:
        tree = self.server_hub.trees[commit]
        paths = parse_qs(self.body.decode())["paths"]
        return self._json([self._described(path, *tree[path]) for path in paths if path in tree])

    def _preupload(self, commit: str) -> None:
        files = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            mode = "lfs" if _is_lfs(path, file["size"]) else "regular"
            oid = self.server_hub.trees[commit].get(path, ("", None))[1]
            ignored = path in self.server_hub.ignored
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
        return self._json({"files": files})

    def _batch(self) -> None:
        objects = []
        for asked in json.loads(self.body)["objects"]:
            found: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server_hub.objects:
                address = f"{self.server_hub.cdn}/upload/{asked['oid']}?X-Amz-Signature={SIGNATURE}"
                found["actions"] = {"upload": {"href": address}}
            objects.append(found)
        return self._json({"transfer": "basic", "objects": objects})

    def _commit(self, name: str, branch: str, head: str) -> None:
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", head) != head:
            return self._send(412, b'{"error": "A commit has happened since."}')
        hub, changes = self.server_hub, {}
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                if value["oid"] not in hub.objects:
                    return self._send(400, b'{"error": "LFS pointer pointed to a file that does not exist"}')
                changes[value["path"]] = ("lfs", value["oid"])
            else:
                assert line["key"] == "file"
                data = base64.b64decode(value["content"])
                hub.objects[_git_id(data)] = data
                changes[value["path"]] = ("git", _git_id(data))
        commit = hub._commit(name, branch, changes, header["value"]["summary"])
        return self._json({"commitUrl": f"{hub.url}/datasets/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        hub = self.server_hub
        if not self._allowed(name, write=False):
            return None
        commit = hub.revision(name, revision)
        if commit is None:
            return self._error(404, "RevisionNotFound")
        if path not in hub.trees[commit]:
            return self._error(404, "EntryNotFound")
        kind, oid = hub.trees[commit][path]
        told = {"X-Repo-Commit": commit, "ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
        if kind == "lfs":
            told |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(hub.objects[oid]))}
            told["Location"] = f"{hub.cdn}/blob/{oid}?Expires=1&Signature={SIGNATURE}"
            return self._send(302, b"", told)
        return self._send(200, self._spoiled(hub.objects[oid]), told)  # whatever range was asked for

    def _spoiled(self, data: bytes) -> bytes:
        if self.spoil == "wrong-bytes":
            return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        return data[:-1] if self.spoil == "short" else data

    def _storage(self) -> None:
        hub, (_, what, oid) = self.server_hub, self.split.path.split("/")
        if SIGNATURE not in self.split.query:
            return self._send(403, b"<Error><Code>AccessDenied</Code></Error>")
        if what == "upload":
            data = self._spoiled(self.body)
            if hub.checks_uploads and hashlib.sha256(data).hexdigest() != oid:
                return self._send(400, b"<Error><Code>BadDigest</Code></Error>")
            hub.objects[oid] = data
            return self._send(200)
        data, asked = hub.objects[oid], self.headers.get("Range")
        if asked is None:
            return self._send(200, self._spoiled(data))
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(data)) if last else len(data)
        if start >= len(data):
            return self._send(416)
        told = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        return self._send(206, self._spoiled(data[start:end]), told)
