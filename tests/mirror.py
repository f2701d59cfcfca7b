"""A mirror on this machine: the archives of a LibriSpeech of one utterance, and faults."""

import functools
import io
import json
import re
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from speech import PHONES, WORDS, textgrid, write_audio

ID = "84-121123-0000"


class Mirror:
    """Serves `files` by path, with byte ranges; `cut` counts the answers to break off half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut = 0
        self.ranges = True
        handler = functools.partial(MirrorHandler, self)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class MirrorHandler(BaseHTTPRequestHandler):
    def __init__(self, mirror: Mirror, *args: object) -> None:
        self.mirror = mirror
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.mirror.requests.append((self.path, asked))
        content = self.mirror.files.get(self.path)
        if content is None:
            return self.send_error(404)
        start = int(re.findall(r"\d+", asked)[0]) if asked and self.mirror.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.mirror.cut:
            self.mirror.cut -= 1
            body = body[: len(body) // 2]
        return self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def record(url: str, md5: str) -> bytes:
    links = {"self": f"{url}/files/librispeech_alignments.zip"}
    file = {"key": "librispeech_alignments.zip", "checksum": f"md5:{md5}", "links": links}
    return json.dumps({"files": [file]}).encode()


def audio_tar(folder: Path) -> bytes:
    flac = write_audio(folder / "x.flac")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(flac, f"LibriSpeech/dev-clean/84/121123/{ID}.flac")
        add(tar, "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt", f"{ID} SHE HAD\n")
        add(tar, "LibriSpeech/README.TXT", "read me")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content.encode()))


def alignment_zip(enclosing: str = "LibriSpeech/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        grid = textgrid({"words": WORDS, "phones": PHONES})
        bundle.writestr(f"{enclosing}dev-clean/84/121123/{ID}.TextGrid", grid)
        bundle.writestr(f"{enclosing}dev-other/84/121123/{ID}.TextGrid", grid)
    return buffer.getvalue()
