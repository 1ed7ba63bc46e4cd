"""What is sent: actions, observations, states."""

from dataclasses import dataclass

from hothouse.env import Action, Observation, State


@dataclass(kw_only=True)
class {{Name}}Action(Action):
    """A guess."""

    number: int


@dataclass(kw_only=True)
class {{Name}}Observation(Observation):
    """What is said of it."""

    hint: str
    guesses_left: int


@dataclass(kw_only=True)
class {{Name}}State(State):
    """Where the episode is."""

    guesses_left: int = 0
