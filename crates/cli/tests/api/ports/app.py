"""What listens in the sandboxes of these tests: a real server of the standard library, on port 8000."""

import base64
import hashlib
import http.server
import json
import os
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        """Pieces of the body as they come."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left and (piece := self.rfile.read(min(left, 65536))):
                left -= len(piece)
                yield piece

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/redirect":
            self.answer(302, b"", Location="/seen?after=redirect")
        elif path == "/missing":
            self.answer(404, b"the app has no such page")
        elif path == "/cookie":
            self.answer(200, b"", Set_Cookie="session=42; Path=/; HttpOnly", Hothouse_Port="1", Strict_Transport_Security="max-age=9")
        elif path == "/steps":
            # One piece, and the next when the file is there: nothing waits for the end.
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            while not os.path.exists("/tmp/go"):
                time.sleep(0.01)
            self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")
        elif path == "/large":
            size = 30 << 20
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            for _ in range(size >> 16):
                self.wfile.write(b"x" * 65536)
        elif path == "/socket":
            self.socket()
        else:
            seen = {"method": self.command, "path": self.path, "headers": sorted(self.headers.items())}
            self.answer(200, json.dumps(seen).encode(), Content_Type="application/json")

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()

    def do_POST(self):
        if self.path == "/early":
            # An answer before the body was read, and the end.
            self.answer(413, b"too much", Connection="close")
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in self.body():
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_PROPFIND = do_GET

    def socket(self):
        """Echoes a WebSocket's messages until it is closed."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            kind, length = head[0], head[1] & 127
            if length == 126:
                length = int.from_bytes(self.rfile.read(2), "big")
            elif length == 127:
                length = int.from_bytes(self.rfile.read(8), "big")
            mask = self.rfile.read(4)
            data = self.rfile.read(length)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
            size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
            self.wfile.write(bytes([kind]) + size + data)
            if kind == 0x88:
                return


http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
