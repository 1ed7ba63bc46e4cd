"""The official asynchronous client in a closed loop: URL, sessions, seconds; one JSON object comes out."""

import asyncio
import json
import sys
import time

from openenv.core.generic_client import GenericEnvClient


async def work(client, number, until, latencies):
    at = 0
    while time.perf_counter() < until:
        text = f"session {number} says {at % 4}"
        sent = time.perf_counter_ns()
        result = await client.step({"message": text})
        latencies.append(time.perf_counter_ns() - sent)
        if result.observation["echoed_message"] != text:
            raise SystemExit(f"an echo of {text!r} was wanted, not {result.observation!r}")
        at += 1


async def main(url, sessions, seconds):
    clients = [GenericEnvClient(base_url=url) for _ in range(sessions)]
    for client in clients:
        await client.connect()
        await client.reset()
    latencies = []
    used, began = time.process_time(), time.perf_counter()
    await asyncio.gather(
        *(work(client, number, began + seconds, latencies) for number, client in enumerate(clients))
    )
    elapsed, used = time.perf_counter() - began, time.process_time() - used
    for client in clients:
        await client.close()
    print(json.dumps({"latencies_ns": latencies, "elapsed_s": elapsed, "cpu_s": used}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
