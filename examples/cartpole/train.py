"""Learns to balance a pole with the cross-entropy method: a linear policy, numpy, and many sessions that step at once.

    pip install './python[env,gym]'
    python examples/cartpole/train.py                            # serves the environment itself
    python examples/cartpole/train.py --env http://127.0.0.1:8000  # hothouse env serve gym:CartPole-v1

Each session plays one candidate. Solved is what CartPole-v1 calls so: a mean return of 475 over 100 episodes that were
not trained on. The same seed learns the same policy.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from hothouse.env.gymnasium import make_vec

SOLVED = 475.0
EPISODES = 100
ELITE = 0.2
"""The part of the candidates that the next ones are drawn around."""
SPREAD = 0.05
"""Which is added to what they differ by, so that they do not become the same too soon."""
TRIAL_SEED = 1_000_000
"""The first seed of the episodes that are not trained on."""


class Player:
    """Plays whole episodes in all sessions at once, and counts the steps."""

    def __init__(self, envs: Any) -> None:
        self.envs = envs
        self.steps = 0

    def returns(self, weights: np.ndarray, seed: int) -> np.ndarray:
        """What each session's policy, a row of weights and a bias, earns in one episode."""
        seen, _ = self.envs.reset(seed=seed)
        earned = np.zeros(self.envs.num_envs)
        playing = np.ones(self.envs.num_envs, dtype=bool)
        while playing.any():
            scores = (seen * weights[:, :-1]).sum(axis=1) + weights[:, -1]
            seen, rewards, terminated, truncated, _ = self.envs.step((scores > 0).astype(np.int64))
            self.steps += int(playing.sum())
            earned += rewards * playing
            playing &= ~(terminated | truncated)
        return earned


def trial(player: Player, mean: np.ndarray, episodes: int, seed: int) -> np.ndarray:
    """The returns of one policy over so many episodes."""
    count = player.envs.num_envs
    rounds = -(-episodes // count)
    weights = np.tile(mean, (count, 1))
    return np.concatenate([player.returns(weights, seed + turn * count) for turn in range(rounds)])[:episodes]


def train(player: Player, seed: int, generations: int) -> float:
    """Learns until a trial says that it is solved. The mean return of the last trial."""
    random = np.random.default_rng(seed)
    count = player.envs.num_envs
    size = player.envs.single_observation_space.shape[0] + 1
    elite = max(2, round(count * ELITE))
    mean, deviation = np.zeros(size), np.ones(size)
    tried = 0.0
    print(f"{'generation':>10} {'mean':>7} {'best':>7} {'elite':>7} {'steps':>8}")
    for generation in range(1, generations + 1):
        weights = mean + deviation * random.standard_normal((count, size))
        returns = player.returns(weights, seed + generation * count)
        best = np.argsort(-returns, kind="stable")[:elite]
        mean, deviation = weights[best].mean(axis=0), weights[best].std(axis=0) + SPREAD
        top, kept = returns.max(), returns[best].mean()
        print(f"{generation:>10} {returns.mean():>7.1f} {top:>7.1f} {kept:>7.1f} {player.steps:>8}", flush=True)
        # One round first, since most policies that are not good enough show it there.
        if kept >= SOLVED and trial(player, mean, count, TRIAL_SEED - count).mean() >= SOLVED:
            tried = float(trial(player, mean, EPISODES, TRIAL_SEED).mean())
            if tried >= SOLVED:
                break
    return tried


def main() -> int:
    """Trains, and says whether it is solved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="gym:CartPole-v1", help="what to serve, or the URL of a server")
    parser.add_argument("--sessions", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generations", type=int, default=40, help="at most")
    args = parser.parse_args()
    envs = make_vec(args.env, args.sessions)
    try:
        player = Player(envs)
        begun = time.monotonic()
        tried = train(player, args.seed, args.generations)
        seconds = time.monotonic() - begun
    finally:
        envs.close()
    verdict = "solved" if tried >= SOLVED else "not solved"
    rate = player.steps / seconds
    print(f"{verdict}: mean return {tried:.1f} over {EPISODES} episodes; {seconds:.1f} s, {rate:.0f} steps/s")
    return 0 if tried >= SOLVED else 1


if __name__ == "__main__":
    sys.exit(main())
