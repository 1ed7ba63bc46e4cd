"""Plays one episode: python client.py [URL]"""

import sys

from hothouse.env import GenericEnvClient

with GenericEnvClient(base_url=sys.argv[1] if sys.argv[1:] else "http://127.0.0.1:8000").sync() as env:
    low, high = 1, 100
    result = env.reset(seed=7)
    print(result.observation["hint"])
    while not result.done:
        number = (low + high) // 2
        result = env.step({"number": number})
        print(f"{number}: {result.observation['hint']}")
        if result.observation["hint"] == "Higher.":
            low = number + 1
        else:
            high = number - 1
    print("reward", result.reward)
