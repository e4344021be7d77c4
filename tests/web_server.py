"""A web server on this machine that behaves well or badly, for tests of downloads."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time

import pytest

from benchmark.tasks.imdb import IMDB

BODY = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `self.server.body`; behaves as the first part of its path says, and honours ranges."""

    def do_HEAD(self):
        self.do_GET(whole=False)

    def do_GET(self, whole=True):
        self.server.asked.append((self.command, self.path, self.headers.get("Range")))
        how, body = self.path.split("/")[1], self.server.body
        if how == "missing":
            self.send_error(404)
            return
        if how == "mute":
            self.server.done.wait(5)
            return
        if how == "other":
            body = b"<html>please log in</html>"
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if how != "whole" else 0
        if begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        if how != "page":  # what tells the hub from a page that stands in its way
            self.send_header("X-Repo-Commit", IMDB.revision)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if not whole:
            return
        rest = body[begin:]
        if how == "cut" and len(self.server.asked) < self.server.good_after:
            self.wfile.write(rest[: max(1, len(rest) // 3)])
            return
        if how == "silent":
            self.wfile.write(rest[:100])
            self.wfile.flush()
            self.server.done.wait(5)
            return
        if how == "slow":
            for at in range(0, len(rest), len(rest) // 8):
                self.wfile.write(rest[at : at + len(rest) // 8])
                self.wfile.flush()
                time.sleep(0.15)
            return
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.body, made.done, made.asked, made.good_after = BODY, threading.Event(), [], 99
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        made.url = f"http://127.0.0.1:{made.server_address[1]}"
        yield made
        made.done.set()
        made.shutdown()
        thread.join()
