"""A Hub on the loopback interface: a folder tree served as huggingface_hub expects, with faults.

`root/datasets/ORG/NAME/…` and `root/models/ORG/NAME/…` are the repositories, each with one
revision, `main`; pull request N of one, the revision `refs/pr/N`, is the repository `NAME-pr-N`.
huggingface_hub reads HF_ENDPOINT when imported, so what goes through this server runs in a
subprocess: `subprocess.run([...], env=hub.env)`.
"""

import hashlib
import json
import os
import re
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)?)"
    r"(?:/(?P<verb>revision|tree|paths-info|refs)"
    r"(?:/(?P<revision>refs/pr/\d+|[^/]+)(?:/(?P<path>.+))?)?)?"
)
RESOLVE = re.compile(
    r"/(?P<kind>datasets/|models/)?(?P<id>[^/]+/[^/]+)"
    r"/resolve/(?P<revision>refs/pr/\d+|[^/]+)/(?P<path>.+)"
)


class Hub:
    """Serves `root` until `stop`; `start` serves it again at the same address.

    `requests` logs "GET /path". `truncate[path] = n` cuts the next n answers for that file in
    half (its length is announced in full); `missing` holds paths answered with 404, `gated` ids of
    repositories whose files are answered with 403.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self.home = root, home
        self.requests: list[str] = []
        self.truncate: dict[str, int] = {}
        self.missing: set[str] = set()
        self.gated: set[str] = set()
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen; the first time on a free port, later on the same."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Network off: connections are refused from here on."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """The environment of this process, pointed at the server and at an empty cache."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
        return kept | {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def put(self, kind: str, id: str, files: dict[str, bytes]) -> Path:
        """Add files to a repository; `kind` is "models" or "datasets"."""
        for name, content in files.items():
            path = self.root / kind / id / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self.root / kind / id

    def commit(self, kind: str, id: str) -> str:
        """Hash of a repository's names and contents, in the place of git's."""
        digest = hashlib.sha1()
        for path in self.files(kind, id):
            digest.update(f"{path.name} {sha1(path)}".encode())
        return digest.hexdigest()

    def files(self, kind: str, id: str) -> list[Path]:
        """Every file of a repository, in order of path."""
        return sorted(p for p in (self.root / kind / id).rglob("*") if p.is_file())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (Handler,), {"hub": self})


class Handler(BaseHTTPRequestHandler):
    """One request. Answers as the Hub does as far as huggingface_hub and datasets look."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(url.path)
        if match := API.fullmatch(path):
            self._api(match, parse_qs(url.query))
        elif match := RESOLVE.fullmatch(path):
            self._resolve(match)
        else:
            self._json({"error": "Not found"}, 404)

    do_HEAD = do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Keep the tests' output quiet."""

    def _api(self, match: re.Match[str], query: dict[str, list[str]]) -> None:
        kind, id, verb = match["kind"], self._at(match), match["verb"]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._known(kind, id, match["revision"]):
            return
        entries = [self._entry(kind, id, path) for path in self.hub.files(kind, id)]
        sha = self.hub.commit(kind, id)
        if verb == "tree":
            below = f"{match['path']}/" if match["path"] else ""
            self._json(_tree([e for e in entries if e["path"].startswith(below)], below, query))
        elif verb == "paths-info":
            self._json([e for e in entries if e["path"] in _asked(body)])
        elif verb == "refs":
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": sha}
            self._json({"branches": [main], "tags": [], "converts": []})
        else:
            siblings = [{"rfilename": e["path"], "size": e["size"]} for e in entries]
            gated = "manual" if id in self.hub.gated else False
            about = {"private": False, "gated": gated, "disabled": False, "tags": [], "likes": 0}
            self._json({"_id": sha, "id": id, "sha": sha, "siblings": siblings, **about})

    def _at(self, match: re.Match[str]) -> str:
        """Repository of a request: the files of a pull request are kept as one of its own."""
        kind, id = (match["kind"] or "models").rstrip("/"), str(match["id"])
        revision = match["revision"] or ""
        for folder in (self.hub.root / kind / id).parent.glob(f"{Path(id).name}-pr-*"):
            proposed = f"{Path(id).parent}/{folder.name}"
            number = folder.name.rpartition("-")[2]
            if revision in (f"refs/pr/{number}", self.hub.commit(kind, proposed)):
                return proposed
        return id

    def _known(self, kind: str, id: str, revision: str | None) -> bool:
        """Whether repository and revision exist; answers the client where they do not."""
        if not (self.hub.root / kind / id).is_dir():
            self._json({"error": "Repository not found"}, 404, "RepoNotFound")
            return False
        proposed = (revision or "").startswith("refs/pr/")
        if not proposed and revision not in (None, "main", self.hub.commit(kind, id)):
            self._json({"error": "Invalid rev id"}, 404, "RevisionNotFound")
            return False
        return True

    def _entry(self, kind: str, id: str, path: Path) -> dict[str, object]:
        name = path.relative_to(self.hub.root / kind / id).as_posix()
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": sha1(path)}

    def _resolve(self, match: re.Match[str]) -> None:
        kind, id, name = (match["kind"] or "models/").rstrip("/"), self._at(match), match["path"]
        if not self._known(kind, id, match["revision"]):
            return
        commit = {"X-Repo-Commit": self.hub.commit(kind, id)}
        if id in self.hub.gated:
            message = f"Access to {kind[:-1]} {id} is restricted. You must be authenticated."
            self._json({"error": message}, 403, "GatedRepo", commit | {"X-Error-Message": message})
            return
        path = self.hub.root / kind / id / name
        if name in self.hub.missing or not path.is_file():
            self._json({"error": "Entry not found"}, 404, "EntryNotFound", commit)
            return
        self._file(path, name, commit)

    def _file(self, path: Path, name: str, headers: dict[str, str]) -> None:
        etag = {"ETag": f'"{sha1(path)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        size = path.stat().st_size
        status, start, stop = 200, 0, size
        if asked:
            status, start = 206, int(asked[1])
            stop = min(int(asked[2] or size - 1) + 1, size)
            etag["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        cut = self.command == "GET" and self.hub.truncate.get(name, 0) > 0
        if cut:
            self.hub.truncate[name] -= 1
        self._send(status, body, headers | etag, body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def _json(
        self,
        content: object,
        status: int = 200,
        error: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        body = json.dumps(content).encode()
        code = {"X-Error-Code": error} if error else {}
        self._send(status, body, {"Content-Type": "application/json", **code, **(headers or {})})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], sent: bytes | None = None
    ) -> None:
        """Announce `body`; send it, or as much of it as `sent` holds."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if sent is None else sent)


def sha1(path: Path) -> str:
    """Hash of a file's content, computed once for as long as the file stays as it is."""
    about = path.stat()
    return _sha1(path, about.st_mtime_ns, about.st_size)


@lru_cache
def _sha1(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _tree(
    entries: list[dict[str, object]], below: str, query: dict[str, list[str]]
) -> list[dict[str, object]]:
    """Entries of a folder: all below it, or its own files and folders."""
    if query.get("recursive", ["false"])[0].lower() == "true":
        return entries
    files = [e for e in entries if "/" not in str(e["path"])[len(below) :]]
    names = {str(e["path"])[len(below) :].split("/")[0] for e in entries if e not in files}
    oid = hashlib.sha1(below.encode()).hexdigest()
    folders = [{"type": "directory", "path": below + n, "size": 0, "oid": oid} for n in names]
    return files + sorted(folders, key=lambda f: f["path"])


def _asked(body: bytes) -> list[str]:
    """Paths of a paths-info request, sent as a form or as JSON."""
    if body.startswith(b"{"):
        return list(json.loads(body)["paths"])
    return parse_qs(body.decode()).get("paths", [])
