"""The frames between server and worker. All integers are little-endian.

To the worker: payload length, request, session, kind. From it: payload length, request (0: unasked), kind.
"""

from __future__ import annotations

import enum
import socket
import struct

PROTOCOL = 1
TO_WORKER = struct.Struct("<IIIB")
FROM_WORKER = struct.Struct("<IIB")
CHUNK_BYTES = 256 << 10
"""How much is read at a time."""
LONGEST_PAYLOAD_BYTES = 1 << 30
"""What nobody means to send: a stream that is out of step."""

Request = tuple[int, int, int, bytes]
"""Kind, request, session, payload."""


class Asked(enum.IntEnum):
    """What a server asks for."""

    OPEN = 1
    RESET = 2
    STEP = 3
    STATE = 4
    CLOSE = 5
    MCP = 6
    CHECKPOINT = 7
    RESTORE = 8
    TASKS = 9
    STEP_WITH = 10


class Said(enum.IntEnum):
    """What a worker answers."""

    HELLO = 0
    DONE = 1
    INVALID = 2
    FAILED = 3


class StreamBroken(ConnectionError):
    """The other side ended within a frame, or sends what is none."""


def framed(request: int, kind: int, payload: bytes) -> bytes:
    """An answer, ready to be sent."""
    return FROM_WORKER.pack(len(payload), request, kind) + payload


class Reader:
    """Reads requests from a socket, as many at a time as have come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def read(self) -> list[Request]:
        """The next requests, at least one; none at the end. Raises `StreamBroken`."""
        while True:
            piece = self._sock.recv(CHUNK_BYTES)
            if not piece:
                if self._rest:
                    raise StreamBroken(f"the stream ended within a frame, after {len(self._rest)} bytes of it")
                return []
            requests = self._taken(self._rest + piece if self._rest else piece)
            if requests:
                return requests

    def _taken(self, data: bytes) -> list[Request]:
        requests: list[Request] = []
        place, end = 0, len(data)
        head = TO_WORKER.size
        unpack = TO_WORKER.unpack_from
        while end - place >= head:
            length, request, session, kind = unpack(data, place)
            after = place + head + length
            if after > end:
                if length > LONGEST_PAYLOAD_BYTES:
                    raise StreamBroken(f"a frame says that it has {length} bytes; that is none")
                if after - end > CHUNK_BYTES:
                    # A large one is read at once where it belongs, not piece by piece.
                    payload = self._whole(data[place + head :], length)
                    requests.append((kind, request, session, payload))
                    place = end
                break
            requests.append((kind, request, session, data[place + head : after]))
            place = after
        self._rest = data[place:]
        return requests

    def _whole(self, begun: bytes, length: int) -> bytes:
        payload = bytearray(length)
        payload[: len(begun)] = begun
        view = memoryview(payload)[len(begun) :]
        while view:
            count = self._sock.recv_into(view)
            if not count:
                raise StreamBroken(f"the stream ended within a frame of {length} bytes")
            view = view[count:]
        return bytes(payload)
