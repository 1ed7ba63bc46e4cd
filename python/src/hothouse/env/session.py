"""One instance of an environment, and what can be asked of it: JSON in, JSON out."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import TYPE_CHECKING, Any, Callable, Optional

from .checkpoints import BY_AUTHOR, NotSupported, pickled, unpickled
from .codec import loaded, object_of
from .observations import encoder_of, observation, whole
from .texts import text
from .tools import answered

if TYPE_CHECKING:
    from .app import App

TASK_METHODS = {
    "list_splits": (),
    "list_tasks": ("split",),
    "num_tasks": ("split",),
    "get_task": ("split", "index"),
    "get_task_range": ("split", "start", "stop"),
}
UNASKED = object()


async def _awaited(waiting: Any) -> Any:
    return await waiting


def accepted(function: Callable[..., Any]) -> Optional[frozenset[str]]:
    """The names that a function can be given; None when it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # It cannot be told, as with some functions that are not written in Python.
        return None
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD))


class EnvSession:
    """An instance, and how it is called. Its requests come one after the other."""

    def __init__(self, app: App, env: Any) -> None:
        self.app = app
        self.env = env
        kind = type(env)
        self._decode = app.action_codec.decode
        self._reset = env.reset_async if app.is_async("reset", kind) else env.reset
        self._step = env.step_async if app.is_async("step", kind) else env.step
        self._reset_takes = accepted(self._reset)
        self._step_takes: Any = UNASKED
        self.async_reset = inspect.iscoroutinefunction(self._reset)
        self.async_step = inspect.iscoroutinefunction(self._step)

    def agree(self, terms: dict[str, Any]) -> None:
        """What the client asks for beforehand. An environment without arrays has nothing to do for it."""
        if terms.get("arrays") == "packed" and callable(pack := getattr(self.env, "pack_arrays", None)):
            pack()

    def reset(self, said: bytes) -> bytes:
        """Begins an episode. What the environment does not take is dropped."""
        return observation(self._reset(**self._arguments(said)))

    async def reset_later(self, said: bytes) -> bytes:
        """The same, awaited."""
        return observation(await self._reset(**self._arguments(said)))

    def _arguments(self, said: bytes) -> dict[str, Any]:
        if not said or said == b"{}":
            return {}
        given = object_of(loaded(said))
        takes = self._reset_takes
        return given if takes is None else {name: value for name, value in given.items() if name in takes}

    def step(self, said: bytes) -> bytes:
        """Does what the action says."""
        seen = self._step(self._decode(said))
        return encoder_of(type(seen))(seen)

    async def step_later(self, said: bytes) -> bytes:
        """The same, awaited."""
        return observation(await self._step(self._decode(said)))

    def step_with(self, said: bytes) -> bytes:
        """A step with further arguments: `{"action", "kwargs"}`. What the environment does not take is dropped."""
        action, kwargs = self._parted(said)
        return observation(self._step(action, **kwargs))

    async def step_with_later(self, said: bytes) -> bytes:
        """The same, awaited."""
        action, kwargs = self._parted(said)
        return observation(await self._step(action, **kwargs))

    def _parted(self, said: bytes) -> tuple[Any, dict[str, Any]]:
        given = object_of(loaded(said))
        kwargs = object_of(given.get("kwargs") or {})
        if self._step_takes is UNASKED:
            self._step_takes = accepted(self._step)
        takes: Optional[frozenset[str]] = self._step_takes
        if takes is not None:
            kwargs = {name: value for name, value in kwargs.items() if name in takes}
        return self._decode(text(given.get("action"), "action")), kwargs

    def state(self, said: bytes = b"") -> bytes:
        """Where the episode stands."""
        value = self.env.state
        if callable(value):
            value = value()
        answer = whole(value, "state")
        if answer[:1] != b"{":
            raise TypeError(f"the state is no object but {type(value).__name__}")
        return answer

    def close(self) -> None:
        """Ends the instance, unless it is the one that all share."""
        close = getattr(self.env, "close", None)
        if close is not None and self.env is not self.app.shared:
            close()

    def mcp(self, said: bytes) -> bytes:
        """`{"method", "params"}` of MCP."""
        request = object_of(loaded(said))
        return text(
            answered(self.env, str(request.get("method")), object_of(request.get("params") or {})), "the result"
        )

    def tasks(self, said: bytes) -> bytes:
        """`{"method", "arguments"}` of the tasks that the environment has."""
        request = object_of(loaded(said))
        name = str(request.get("method"))
        method = getattr(self.env, name, None) if name in TASK_METHODS else None
        if method is None:
            raise NotSupported(f"{name} is not supported for this environment")
        given = object_of(request.get("arguments") or {})
        found = method(*(given.get(each) for each in TASK_METHODS[name]))
        if inspect.isawaitable(found):
            found = asyncio.run(_awaited(found))
        return text(found, f"the result of {name}")

    def checkpoint(self, said: bytes = b"") -> bytes:
        """The whole episode as bytes, by the author's `checkpoint`, else by pickling the instance."""
        own = getattr(self.env, "checkpoint", None)
        if callable(own):
            return BY_AUTHOR + pickle.dumps(own(), pickle.HIGHEST_PROTOCOL)
        if self.env is self.app.shared:
            raise NotSupported("an environment that all share cannot be copied: give create_app its class instead")
        return pickled(self.env)

    def restored(self, said: bytes) -> EnvSession:
        """What becomes of the session when a checkpoint is put in its place."""
        if said[:1] == BY_AUTHOR:
            self.env.restore(pickle.loads(said[1:]))
            return self
        self.close()
        return EnvSession(self.app, unpickled(said))


def restored(app: App, said: bytes) -> EnvSession:
    """A new session, from a checkpoint."""
    if said[:1] == BY_AUTHOR:
        return EnvSession(app, app.make()).restored(said)
    return EnvSession(app, unpickled(said))
