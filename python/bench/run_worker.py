"""What a worker costs: steps a second of an echo environment over a socket, beside a plain loop of the same steps.

    python bench/run_worker.py [--sessions N] [--seconds S] [--min-steps-s N] [--max-trip-us US]

The worker is a process of its own, as it is under a server; this one plays the server. `plain` calls the environment
in a loop, `plain, as JSON` also reads its actions and writes its observations as the worker does. With `--min-steps-s`
and `--max-trip-us` it fails when the worker does less.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import sys
import time

from hothouse.env import Action, Environment, Observation, State, create_app
from hothouse.worker.frames import FROM_WORKER, TO_WORKER, Asked, Said
from hothouse.worker.zygote import serve

ACTION = b'{"message":"Hello, World!"}'


class EchoAction(Action):
    message: str


class EchoObservation(Observation):
    echoed_message: str
    message_length: int


class Echo(Environment[EchoAction, EchoObservation, State]):
    def __init__(self) -> None:
        super().__init__()
        self._state = State()

    def reset(self) -> EchoObservation:  # type: ignore[override]
        self._state = State()
        return EchoObservation(echoed_message="ready", message_length=0, reward=0.0)

    def step(self, action: EchoAction) -> EchoObservation:  # type: ignore[override]
        self._state.step_count += 1
        length = len(action.message)
        return EchoObservation(echoed_message=action.message, message_length=length, reward=length * 0.1)

    @property
    def state(self) -> State:
        return self._state


APP = create_app(Echo, EchoAction, EchoObservation)


class Worker:
    """A worker in a process of its own, at the other end of a socket pair."""

    def __init__(self, sessions: int) -> None:
        self.sock, theirs = socket.socketpair()
        self._rest = b""
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            serve(theirs, APP)
            os._exit(0)
        theirs.close()
        self.answers(1)
        for kind in (Asked.OPEN, Asked.RESET):
            self.sock.sendall(b"".join(frame(number, kind, b"") for number in range(sessions)))
            self.answers(sessions)

    def answers(self, count: int) -> None:
        """Waits for so many answers."""
        data, head = self._rest, FROM_WORKER.size
        unpack = struct.Struct("<IIB").unpack_from
        place = 0
        while count:
            if len(data) - place >= head:
                length, _, kind = unpack(data, place)
                if len(data) - place >= head + length:
                    if kind not in (Said.DONE, Said.HELLO):
                        raise RuntimeError(data[place + head : place + head + length].decode())
                    place += head + length
                    count -= 1
                    continue
            data, place = data[place:] + self.sock.recv(1 << 20), 0
        self._rest = data[place:]

    def end(self) -> None:
        self.sock.close()
        os.waitpid(self.pid, 0)


def frame(session: int, kind: Asked, payload: bytes) -> bytes:
    return TO_WORKER.pack(len(payload), session + 1, session, kind) + payload


def round_trips(seconds: float) -> list[float]:
    """Seconds that one step took, each after the one before."""
    worker = Worker(1)
    step = frame(0, Asked.STEP, ACTION)
    took = []
    until = time.perf_counter() + seconds
    begin = 0.0
    while begin < until:
        begin = time.perf_counter()
        worker.sock.sendall(step)
        worker.answers(1)
        took.append(time.perf_counter() - begin)
    worker.end()
    return took[len(took) // 10 :]


def throughput(sessions: int, seconds: float) -> float:
    """Steps a second, with one step of each session asked for at any time."""
    worker = Worker(sessions)
    halves = [range(0, sessions // 2), range(sessions // 2, sessions)]
    waves = [b"".join(frame(number, Asked.STEP, ACTION) for number in half) for half in halves if half]
    counts = [len(half) for half in halves if half]
    steps = 0
    for wave in waves:
        worker.sock.sendall(wave)
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        for wave, count in zip(waves, counts):
            worker.answers(count)
            worker.sock.sendall(wave)
            steps += count
    worker.answers(sum(counts))
    worker.end()
    return steps / (now - begin)


def plain(seconds: float) -> float:
    """Steps a second of a loop."""
    env, steps = Echo(), 0
    env.reset()
    action = EchoAction(message="Hello, World!")
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        for _ in range(100):
            env.step(action)
        steps += 100
    return steps / (now - begin)


def plain_as_json(seconds: float) -> float:
    """Steps a second of a loop that reads and writes JSON."""
    session, steps = APP.session(), 0
    session.reset(b"{}")
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        for _ in range(100):
            session.step(ACTION)
        steps += 100
    return steps / (now - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a worker costs.")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--min-steps-s", type=float, default=None, metavar="N")
    parser.add_argument("--max-trip-us", type=float, default=None, metavar="US")
    arguments = parser.parse_args()
    print(f"plain            {plain(arguments.seconds):>10,.0f} steps/s")
    print(f"plain, as JSON   {plain_as_json(arguments.seconds):>10,.0f} steps/s")
    trips = round_trips(arguments.seconds)
    trip = statistics.median(trips) * 1e6
    print(f"1 session        {len(trips) / sum(trips):>10,.0f} steps/s   trip p50 {trip:.1f} us", end="")
    print(f"   p99 {statistics.quantiles(trips, n=100)[98] * 1e6:.1f} us")
    rate = throughput(arguments.sessions, arguments.seconds)
    print(f"{arguments.sessions:<4} sessions    {rate:>10,.0f} steps/s")
    failed = False
    if arguments.min_steps_s is not None and rate < arguments.min_steps_s:
        print(f"fewer than {arguments.min_steps_s} steps/s", file=sys.stderr)
        failed = True
    if arguments.max_trip_us is not None and trip > arguments.max_trip_us:
        print(f"a round trip takes more than {arguments.max_trip_us} us", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
