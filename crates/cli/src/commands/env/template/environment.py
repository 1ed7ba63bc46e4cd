"""The rules."""

import random
import uuid

from hothouse.env import Environment

from models import {{Name}}Action, {{Name}}Observation, {{Name}}State

GUESSES = 7


class {{Name}}Environment(Environment):
    """Guess a number between 1 and 100; the first right guess is worth 1."""

    # Each session has an instance of its own; True lets many of them share a process.
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._number = 0
        self._state = {{Name}}State()

    def reset(self, seed=None, episode_id=None):
        self._number = random.Random(seed).randint(1, 100)
        self._state = {{Name}}State(episode_id=episode_id or str(uuid.uuid4()), step_count=0, guesses_left=GUESSES)
        return {{Name}}Observation(hint="I think of a number between 1 and 100.", guesses_left=GUESSES)

    def step(self, action: {{Name}}Action):
        if not 1 <= action.number <= 100:
            raise ValueError(f"{action.number} is not between 1 and 100")
        self._state.step_count += 1
        self._state.guesses_left -= 1
        left = self._state.guesses_left
        if action.number == self._number:
            return {{Name}}Observation(hint="That is it.", guesses_left=left, reward=1.0, done=True)
        hint = "Higher." if action.number < self._number else "Lower."
        return {{Name}}Observation(hint=hint, guesses_left=left, reward=0.0, done=left == 0)

    @property
    def state(self):
        return self._state
