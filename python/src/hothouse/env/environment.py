"""`Environment`: what an author writes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar

from .rubric import Rubric
from .transform import Transform

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT")


@dataclass
class EnvironmentMetadata:
    """What an environment says of itself."""

    name: str
    description: str
    readme_content: Optional[str] = None
    version: Optional[str] = None
    author: Optional[str] = None
    documentation_url: Optional[str] = None


class Environment(Generic[ActT, ObsT, StateT]):
    """Something with `reset`, `step` and `state`. Each session of a client has an instance of its own.

    `reset` takes as many of `seed`, `episode_id` and other arguments as its author wants; what a client sends beside
    them is dropped. `reset_async` and `step_async` are used instead where they are written. `checkpoint` and `restore`
    may say how an episode is kept; without them the instance is pickled.
    """

    SUPPORTS_CONCURRENT_SESSIONS: bool = False
    """False, said by a class itself, keeps its instances in processes of their own."""
    REQUIRES_SINGLE_THREAD_EXECUTOR: bool = False
    """True when all instances of a process have to be called by the same thread, always."""

    REQUIRES_OWN_THREAD: bool = False
    """True when each instance has to be called by the thread that made it, as when it holds a connection of sqlite3."""

    # For those who do not call the initializer.
    transform: Optional[Transform[Any]] = None
    rubric: Optional[Rubric] = None

    def __init__(self, transform: Optional[Transform[Any]] = None, rubric: Optional[Rubric] = None) -> None:
        self.transform = transform
        self.rubric = rubric

    def reset(self, seed: Optional[int] = None, episode_id: Optional[str] = None, **kwargs: Any) -> ObsT:
        """Begins an episode and gives its first observation."""
        raise NotImplementedError(f"{type(self).__name__} has no reset")

    async def reset_async(self, seed: Optional[int] = None, episode_id: Optional[str] = None, **kwargs: Any) -> ObsT:
        """The same, for environments that wait for something."""
        return self.reset(seed=seed, episode_id=episode_id, **kwargs)

    def step(self, action: ActT, timeout_s: Optional[float] = None, **kwargs: Any) -> ObsT:
        """Does what the agent wants and gives what it sees then."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    async def step_async(self, action: ActT, timeout_s: Optional[float] = None, **kwargs: Any) -> ObsT:
        """The same, for environments that wait for something."""
        return self.step(action, timeout_s=timeout_s, **kwargs)

    @property
    def state(self) -> StateT:
        """Where the episode stands. It may be written as a property or as a method."""
        raise NotImplementedError(f"{type(self).__name__} has no state")

    def close(self) -> None:
        """Gives up what the instance holds. It is called once, at the end of the session."""

    def get_metadata(self) -> EnvironmentMetadata:
        """What the environment says of itself."""
        name = type(self).__name__
        return EnvironmentMetadata(name=name, description=f"{name} environment", version="1.0.0")

    def render_web(self, observation: dict[str, Any]) -> Optional[str]:
        """HTML that shows an observation to people, or None."""
        return None

    def web_actions(self, observation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Actions to offer to people as buttons: what is on them, and the action."""
        return []

    def _apply_transform(self, observation: ObsT) -> ObsT:
        if self.transform is None:
            return observation
        changed: ObsT = self.transform(observation)
        return changed

    def _apply_rubric(self, action: ActT, observation: ObsT) -> float:
        if self.rubric is None:
            return 0.0
        score: Any = self.rubric(action, observation)
        if inspect.isawaitable(score):
            _give_up(score)
            raise TypeError("the rubric is asynchronous: use step_async and _apply_rubric_async")
        return float(score)

    async def _apply_rubric_async(self, action: ActT, observation: ObsT) -> float:
        if self.rubric is None:
            return 0.0
        score: Any = self.rubric(action, observation)
        return float(await score if inspect.isawaitable(score) else score)

    def _reset_rubric(self) -> None:
        if self.rubric is None:
            return
        waiting: Any = self.rubric.reset()
        if inspect.isawaitable(waiting):
            _give_up(waiting)
            raise TypeError("the rubric's reset is asynchronous: use reset_async and _reset_rubric_async")

    async def _reset_rubric_async(self) -> None:
        if self.rubric is None:
            return
        waiting: Any = self.rubric.reset()
        if inspect.isawaitable(waiting):
            await waiting


def _give_up(waiting: Awaitable[Any]) -> None:
    close = getattr(waiting, "close", None)
    if close is not None:
        close()
