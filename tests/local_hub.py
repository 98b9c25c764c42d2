"""A small Hub on loopback, so that tests of Hub code need no network and meet its refusals.

It answers what `huggingface_hub`, `transformers` and `datasets` ask to make a repository, commit to it, list it and
download from it. Every commit keeps a snapshot and has an id of its own; branches and tags point to commits. Whoever
has `WRITE_TOKEN` may write to the repositories of `OWNER`; `READ_TOKEN` reads the private ones.

Repositories live in memory. One below ROOT/models/<owner>/<name> or ROOT/datasets/<owner>/<name> is read from disk
when it is first asked for. The one thing that is not spoken is Xet: clients need `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_cards import card_errors

OWNER = "owner"
WRITE_TOKEN = "hf_write"
READ_TOKEN = "hf_read"
LARGE_FILES = (".safetensors", ".bin", ".png", ".parquet")
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_FILES).encode()
Snapshot = dict[str, bytes]


class RefusalError(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more


def is_large(path: str) -> bool:
    return path.endswith(LARGE_FILES)


def blob_id(content: bytes) -> str:
    """Return the id that git gives the content of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def content_id(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_large(path) else blob_id(content)


@dataclass
class Repository:
    """The snapshots of a repository and the names that point to them."""

    private: bool = False
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: Snapshot, message: str) -> str:
        parent = self.branches.get(branch, "")
        listing = [(path, blob_id(content)) for path, content in sorted(files.items())]
        sha = hashlib.sha1(json.dumps([parent, message, listing]).encode()).hexdigest()
        self.snapshots[sha] = files
        self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str:
        """Return the commit that a branch, a tag or a commit id means."""
        names = self.tags | self.branches | {sha: sha for sha in self.snapshots}
        sha = names.get(revision.removeprefix("refs/heads/"))
        if sha is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


@dataclass
class Hub:
    """All repositories, and the large files that were uploaded for them."""

    root: Path
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def find(self, kind: str, name: str) -> Repository | None:
        key, folder = f"{kind}/{name}", self.root / kind / name
        if key not in self.repositories and folder.is_dir():
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            self.repositories[key] = repository = Repository()
            repository.commit("main", {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}, "")
        return self.repositories.get(key)


def entry(path: str, content: bytes) -> dict[str, Any]:
    described: dict[str, Any] = {"type": "file", "path": path, "oid": blob_id(content), "size": len(content)}
    if is_large(path):
        described["lfs"] = {"oid": content_id(path, content), "size": len(content), "pointerSize": 134}
    return described


def entries(files: Snapshot, inside: str, recursive: bool) -> list[dict[str, Any]]:
    """Return the files and folders below `inside`, all of them or one level."""
    prefix = f"{inside}/" if inside else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            below = prefix + "/".join(parts[:depth])
            found[below] = {"type": "directory", "path": below, "oid": blob_id(below.encode()), "size": 0}
        if recursive or len(parts) == 1:
            found[path] = entry(path, content)
    return list(found.values())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.route(b"")

    def do_POST(self) -> None:
        self.route(self.body())

    def do_PUT(self) -> None:
        self.route(self.body())

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def route(self, body: bytes) -> None:
        method, path = "GET" if self.command == "HEAD" else self.command, urlsplit(self.path).path
        try:
            for allowed, pattern, action in ROUTES:
                # a quoted slash stands inside a name, so names are unquoted one by one
                if allowed == method and (found := re.fullmatch(pattern, path)):
                    names = {key: unquote(text or "") for key, text in found.groupdict().items()}
                    with self.hub.lock:
                        return action(self, body, **names)
            raise RefusalError(404, "Sorry, we can't find the page you are looking for.", "EntryNotFound")
        except RefusalError as refusal:
            headers = {"X-Error-Message": refusal.message.replace("\n", " ")}
            if refusal.code is not None:
                headers["X-Error-Code"] = refusal.code
            self.answer({"error": refusal.message, **refusal.more}, refusal.status, headers)

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send(body, status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Who may do what

    @property
    def address(self) -> str:
        return f"http://{self.headers['Host']}"

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def readable(self, kind: str, name: str) -> Repository:
        repository = self.hub.find(kind or "models", name)
        if repository is None or (repository.private and self.token not in (WRITE_TOKEN, READ_TOKEN)):
            # whether a private repository exists is not told
            raise RefusalError(401 if self.token is None else 404, "Repository not found", "RepoNotFound")
        return repository

    def check_writer(self, owner: str) -> None:
        if self.token not in (WRITE_TOKEN, READ_TOKEN):
            raise RefusalError(401, "Invalid credentials in Authorization header" if self.token else "Please log in.")
        if self.token == READ_TOKEN or owner != OWNER:
            raise RefusalError(403, f'You don\'t have the rights to write under the namespace "{owner}"')

    def writable(self, kind: str, name: str) -> Repository:
        repository = self.readable(kind, name)
        self.check_writer(name.split("/")[0])
        return repository

    # What can be asked

    def who_am_i(self, body: bytes) -> None:
        if self.token not in (WRITE_TOKEN, READ_TOKEN):
            raise RefusalError(401, "Invalid credentials in Authorization header")
        role = "write" if self.token == WRITE_TOKEN else "read"
        self.answer({"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": role}}})

    def validate(self, body: bytes) -> None:
        errors = card_errors(json.loads(body)["content"])
        if not errors:
            self.answer({"errors": [], "warnings": []})
        elif "text/plain" in self.headers.get("Accept", ""):
            self.answer("\n".join(f"- Error: {error}" for error in errors), 400)
        else:
            self.answer({"errors": [{"message": error} for error in errors], "warnings": []}, 400)

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        kind, owner = f"{asked.get('type') or 'model'}s", asked.get("organization") or OWNER
        self.check_writer(owner)
        name = f"{owner}/{asked['name']}"
        url = f"{self.address}/{'' if kind == 'models' else kind + '/'}{name}"
        if self.hub.find(kind, name) is not None:
            raise RefusalError(409, "You already created this repo", url=url)
        repository = Repository(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        repository.commit("main", {".gitattributes": GIT_ATTRIBUTES}, "initial commit")
        self.hub.repositories[f"{kind}/{name}"] = repository
        self.answer({"url": url, "name": name, "id": name})

    def info(self, body: bytes, kind: str, name: str, revision: str = "") -> None:
        repository = self.readable(kind, name)
        sha = repository.resolve(revision or "main")
        self.answer(
            {
                "_id": name,
                "id": name,
                "sha": sha,
                "private": repository.private,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in repository.snapshots[sha]],
                "lastModified": "2026-01-01T00:00:00.000Z",
            }
        )

    def tree(self, body: bytes, kind: str, name: str, revision: str, inside: str = "") -> None:
        repository = self.readable(kind, name)
        files = repository.snapshots[repository.resolve(revision)]
        self.answer(entries(files, inside, "recursive=true" in self.path.lower()))

    def paths_info(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repository = self.readable(kind, name)
        # older clients send a form
        asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        files = repository.snapshots[repository.resolve(revision)]
        self.answer([found for found in entries(files, "", True) if found["path"] in asked])

    def refs(self, body: bytes, kind: str, name: str) -> None:
        repository = self.readable(kind, name)

        def listed(names: dict[str, str], place: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{place}/{n}", "targetCommit": sha} for n, sha in names.items()]

        branches, tags = listed(repository.branches, "heads"), listed(repository.tags, "tags")
        self.answer({"branches": branches, "tags": tags, "converts": []})

    def create_branch(self, body: bytes, kind: str, name: str, branch: str) -> None:
        repository = self.writable(kind, name)
        if branch.startswith("refs/"):
            raise RefusalError(400, f"Invalid reference for a branch: {branch}")
        if branch in repository.branches:
            raise RefusalError(409, "Reference already exists")
        repository.branches[branch] = repository.resolve(json.loads(body or b"{}").get("startingPoint") or "main")
        self.answer({})

    def create_tag(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repository, tag = self.writable(kind, name), json.loads(body)["tag"]
        if tag in repository.tags:
            raise RefusalError(409, "Tag reference exists already")
        repository.tags[tag] = repository.resolve(revision)
        self.answer({})

    def preupload(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repository = self.writable(kind, name)
        files = repository.snapshots[repository.resolve(revision)]
        self.answer(
            {
                "files": [
                    {
                        "path": asked["path"],
                        "uploadMode": "lfs" if is_large(asked["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": content_id(asked["path"], files[asked["path"]]) if asked["path"] in files else None,
                    }
                    for asked in json.loads(body)["files"]
                ]
            }
        )

    def large_batch(self, body: bytes, kind: str, name: str) -> None:
        self.writable(kind, name)
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.large:
                upload = {"href": f"{self.address}/large/{asked['oid']}"}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{self.address}/large/verify"}}
            objects.append(answer)
        self.answer({"transfer": "basic", "objects": objects})

    def upload_large(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusalError(400, "The content does not have the announced hash")
        self.hub.large[oid] = body
        self.answer({})

    def verify_large(self, body: bytes) -> None:
        asked = json.loads(body)
        if len(self.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise RefusalError(400, "The upload is not whole")
        self.answer({})

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repository = self.writable(kind, name)
        if revision not in repository.branches:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = repository.branches[revision]
        files, summary = dict(repository.snapshots[head]), ""
        for line in body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            path = value.get("path", "")
            if key == "header":
                summary = value["summary"]
                if value.get("parentCommit", head) != head:
                    raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[path] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise RefusalError(400, f"The content of {path} was not uploaded")
                files[path] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                if path not in files:
                    raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
                del files[path]
            elif key == "deletedFolder":
                folder = PurePosixPath(path)
                files = {name: content for name, content in files.items() if folder not in PurePosixPath(name).parents}
            else:
                raise RefusalError(400, f"Unknown operation {key}")
        if errors := card_errors(files.get("README.md", b"").decode()):
            raise RefusalError(400, "\n".join(errors))
        sha = repository.commit(revision, files, summary)
        self.answer({"success": True, "commitOid": sha, "commitUrl": f"{self.address}/{name}/commit/{sha}"})

    def download(self, body: bytes, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.readable(kind, name)
        sha = repository.resolve(revision)
        if path not in repository.snapshots[sha]:
            raise RefusalError(404, "Entry not found", "EntryNotFound")
        content = repository.snapshots[sha][path]
        headers = {"ETag": f'"{content_id(path, content)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        status, size = 200, len(content)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, status = int(found[1]), 206
            content = content[start : int(found[2]) + 1 if found[2] else None]
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{size}"
        self.send(content, status, {"Content-Type": "application/octet-stream", **headers})


API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
FILES = r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)"
ROUTES = [
    ("GET", r"/api/whoami-v2", Handler.who_am_i),
    ("POST", r"/api/validate-yaml", Handler.validate),
    ("POST", r"/api/repos/create", Handler.create),
    ("GET", API, Handler.info),
    ("GET", rf"{API}/revision/(?P<revision>[^/]+)", Handler.info),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<inside>.*))?", Handler.tree),
    ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", Handler.paths_info),
    ("GET", rf"{API}/refs", Handler.refs),
    ("POST", rf"{API}/branch/(?P<branch>[^/]+)", Handler.create_branch),
    ("POST", rf"{API}/tag/(?P<revision>[^/]+)", Handler.create_tag),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    ("POST", rf"{FILES}\.git/info/lfs/objects/batch", Handler.large_batch),
    ("PUT", r"/large/(?P<oid>[0-9a-f]{64})", Handler.upload_large),
    ("POST", r"/large/verify", Handler.verify_large),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", Handler.commit),
    ("GET", rf"{FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.download),
]


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """Serve a Hub with the repositories below `root`, and give the address to set `HF_ENDPOINT` to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfHub", (Handler,), {"hub": Hub(root)}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
