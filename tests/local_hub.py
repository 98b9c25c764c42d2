"""A small read-only Hub on loopback, so that tests of Hub code need no network.

It answers what `huggingface_hub` and `datasets` ask to list a repository and download its files. Repositories are
plain folders: ROOT/models/<owner>/<name> and ROOT/datasets/<owner>/<name>. There is one branch, `main`; its commit id
is a hash of the files, and other revisions are refused.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+)(?:/(.*))?)?)?$"
)
FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


def blob_id(path: Path) -> str:
    """Return the id that git gives the content of a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := REPOSITORY.match(path):
            self.describe(*found.groups(), asked=None)
        elif found := FILE.match(path):
            self.send_file(found[1] or "models", *found.groups()[1:])
        else:
            self.refuse("EntryNotFound")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = REPOSITORY.match(unquote(urlsplit(self.path).path))
        if found is None or found[3] != "paths-info":
            self.refuse("EntryNotFound")
        else:
            self.describe(*found.groups(), asked=json.loads(body)["paths"])

    def describe(
        self, kind: str, name: str, verb: str | None, revision: str | None, inside: str | None, asked: list[str] | None
    ) -> None:
        folder = self.root / kind / name
        if not folder.is_dir():
            return self.refuse("RepoNotFound")
        files = self.files(folder)
        commit = self.commit(files)
        if revision not in (None, "main", commit):
            return self.refuse("RevisionNotFound")
        if verb == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": commit}
            return self.answer({"branches": [branch], "tags": [], "converts": []})
        if verb in ("tree", "paths-info"):
            return self.answer(
                [entry for entry in self.entries(files, inside or "") if asked is None or entry["path"] in asked]
            )
        return self.answer(
            {
                "_id": name,
                "id": name,
                "sha": commit,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": file} for file in files],
                "lastModified": "2026-01-01T00:00:00.000Z",
            }
        )

    def entries(self, files: dict[str, Path], inside: str) -> list[dict[str, Any]]:
        """Return the files and folders below `inside`, all of them or one level, as the query says."""
        recursive = "recursive=true" in self.path.lower()
        prefix = f"{inside}/" if inside else ""
        entries: dict[str, dict[str, Any]] = {}
        for name, path in files.items():
            if not name.startswith(prefix):
                continue
            parts = name.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                below = prefix + "/".join(parts[:depth])
                entries[below] = {
                    "type": "directory",
                    "path": below,
                    "oid": hashlib.sha1(below.encode()).hexdigest(),
                    "size": 0,
                }
            if recursive or len(parts) == 1:
                entries[name] = {"type": "file", "path": name, "oid": blob_id(path), "size": path.stat().st_size}
        return list(entries.values())

    def send_file(self, kind: str, name: str, revision: str, file: str) -> None:
        folder = self.root / kind / name
        files = self.files(folder)
        commit = self.commit(files)
        if not folder.is_dir():
            self.refuse("RepoNotFound")
        elif revision not in ("main", commit):
            self.refuse("RevisionNotFound")
        elif file not in files:
            self.refuse("EntryNotFound")
        else:
            self.send_content(files[file], commit)

    def send_content(self, path: Path, commit: str) -> None:
        content = path.read_bytes()
        size, start, status = len(content), 0, 200
        if found := re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", "")):
            start, status = int(found[1]), 206
            content = content[start : int(found[2]) + 1 if found[2] else None]
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        self.send_header("ETag", f'"{blob_id(path)}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @staticmethod
    def files(folder: Path) -> dict[str, Path]:
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    @staticmethod
    def commit(files: dict[str, Path]) -> str:
        listing = "\n".join(f"{name} {blob_id(path)}" for name, path in files.items())
        return hashlib.sha1(listing.encode()).hexdigest()

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: str) -> None:
        self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """Serve the repositories below `root`, and give the address to set `HF_ENDPOINT` to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("RootedHandler", (Handler,), {"root": root}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
