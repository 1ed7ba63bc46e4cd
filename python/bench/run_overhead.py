"""What the SDK adds to one `run`, in milliseconds.

Raw is a POST of the same body with `http.client` on a connection that stays open, its answer read and parsed as JSON.
Raw and SDK calls take turns, so that a busy machine is as hard on each.

    python bench/run_overhead.py [--calls N] [--max-overhead MS]

It uses the server of `HOTHOUSE_SERVER`, else a private one. With `--max-overhead` it fails when the blocking or the
asynchronous half adds more than that at the median.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import hothouse
from hothouse.bodies import encoded, exec_body, new_id

COMMAND = ["true"]


class Raw:
    """The floor: nothing but the standard library's HTTP."""

    def __init__(self, base_url: str, sandbox_id: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc)
        self._path = f"/v1/sandboxes/{sandbox_id}/exec"

    def run(self) -> None:
        body = encoded(exec_body(COMMAND, new_id("ex")))
        self._connection.request("POST", self._path, body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        result = json.loads(answer.read())
        if answer.status != 200 or result["outcome"]["code"] != 0:
            raise RuntimeError(f"{answer.status}: {result}")


def blocking(client: hothouse.Client, calls: int) -> tuple[list[float], list[float]]:
    raw_s, sdk_s = [], []
    with client.create() as sandbox:
        assert client.base_url is not None
        raw = Raw(client.base_url, sandbox.id)
        for call in range(calls + calls // 10):
            begin = time.perf_counter()
            raw.run()
            between = time.perf_counter()
            sandbox.run(COMMAND, check=True)
            end = time.perf_counter()
            if call >= calls // 10:
                raw_s.append(between - begin)
                sdk_s.append(end - between)
    return raw_s, sdk_s


async def asynchronous(base_url: str, calls: int) -> tuple[list[float], list[float]]:
    raw_s, sdk_s = [], []
    async with hothouse.AsyncClient(base_url) as client, await client.create() as sandbox:
        raw = Raw(base_url, sandbox.id)
        for call in range(calls + calls // 10):
            begin = time.perf_counter()
            raw.run()
            between = time.perf_counter()
            await sandbox.run(COMMAND, check=True)
            end = time.perf_counter()
            if call >= calls // 10:
                raw_s.append(between - begin)
                sdk_s.append(end - between)
    return raw_s, sdk_s


def told(name: str, raw_s: Sequence[float], sdk_s: Sequence[float]) -> float:
    raw, sdk = statistics.median(raw_s) * 1e3, statistics.median(sdk_s) * 1e3
    p99 = statistics.quantiles(sdk_s, n=100)[98] * 1e3
    print(f"{name:<8} raw p50 {raw:.3f} ms   sdk p50 {sdk:.3f} ms   p99 {p99:.3f} ms   overhead p50 {sdk - raw:.3f} ms")
    return sdk - raw


def main() -> int:
    parser = argparse.ArgumentParser(description="What the SDK adds to one run, in milliseconds.")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--max-overhead", type=float, default=None, metavar="MS")
    arguments = parser.parse_args()
    with hothouse.Client() as client:
        client.health()
        assert client.base_url is not None
        overheads = [
            told("blocking", *blocking(client, arguments.calls)),
            told("async", *asyncio.run(asynchronous(client.base_url, arguments.calls))),
        ]
    if arguments.max_overhead is not None and max(overheads) > arguments.max_overhead:
        print(f"more than {arguments.max_overhead} ms", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
