"""What listens on port 8000 and wishes its clients ill: the path says how."""

import os
import socket
import threading
import time

ANSWERS = {
    "/garbage": b"\x00\xff\x16\x03\x01 this is no HTTP\r\n\r\n",
    "/nine": b"<html>an answer of HTTP 0.9</html>",
    "/nothing": b"",
    "/half-a-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/half-a-body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
    "/half-a-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
    "/bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf",
    "/two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "/status": b"HTTP/1.1 99999 Huge\r\n\r\n",
    "/many-headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 5000 + b"\r\n",
    "/upgraded": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\nevil",
    "/newline": b"HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: b=c\r\nContent-Length: 0\r\n\r\n",
    "/more-than-said": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
}
# Begin, and what is repeated after it without an end.
FLOODS = {
    "/head-flood": (b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"a" * 8000 + b"\r\n"),
    "/line-flood": (b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 8000),
    "/interim-flood": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100),
    "/body-flood": (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
}


def serve(peer):
    with peer:
        path = peer.recv(1 << 16).split(b" ")[1].decode()
        if path == "/never":
            time.sleep(3600)
        if path == "/reset":
            # What was not read makes the end a reset.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            return
        if path in FLOODS:
            begin, rest = FLOODS[path]
            peer.sendall(begin)
            try:
                while True:
                    peer.sendall(rest)
            except OSError:
                os.makedirs("/tmp/ended", exist_ok=True)
                open("/tmp/ended" + path, "w").close()
            return
        peer.sendall(ANSWERS[path])


listener = socket.create_server(("127.0.0.1", 8000))
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
