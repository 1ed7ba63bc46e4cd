"""`create_app`: an environment and its models, ready to be served."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from .codec import Codec, codec_of
from .environment import Environment
from .mcp_environment import ToolCodec
from .models import State
from .session import TASK_METHODS, EnvSession
from .tools import can_have_tools

LONGEST_README_BYTES = 256 << 10
BASES = ("openenv.", "openenv_core.", "core.")
"""Where base classes of environments live whose methods nobody has written yet."""
ANYWHERE = ("0.0.0.0", "::")


@dataclass
class ConcurrencyConfig:
    """How many sessions there may be at once."""

    max_concurrent_envs: int = 1
    session_timeout: Optional[float] = None


class App:
    """An environment that can be served: by `hothouse env serve`, by `run`, or by any ASGI server.

    `make` makes an instance; `shared` is the one instance where there is only that.
    """

    def __init__(
        self,
        env: Any,
        action_cls: Any = None,
        observation_cls: Any = None,
        *,
        env_name: Optional[str] = None,
        max_sessions: Optional[int] = None,
        state_cls: Any = None,
        reset_observation_cls: Any = None,
        action_codec: Optional[Codec] = None,
        schemas: Optional[dict[str, Any]] = None,
        about: Optional[dict[str, Any]] = None,
    ) -> None:
        self.shared = None if callable(env) and not isinstance(env, Environment) else env
        self._factory: Callable[[], Any] = env if self.shared is None else lambda: env
        self._tried_cls: Optional[type] = None
        self.env_name = env_name
        self._observation_cls = observation_cls
        self._reset_observation_cls = reset_observation_cls
        self._state_cls = state_cls
        self._known_schemas = schemas or {}
        self._more = about or {}
        self._max_sessions = 1 if self.shared is not None else max_sessions
        cls = self.known_cls()
        if action_codec is None:
            tools = cls is not None and can_have_tools(cls)
            action_codec = ToolCodec(action_cls) if tools else codec_of(action_cls)
        self.action_codec: Codec = action_codec
        self._asgi: Any = None

    def make(self) -> Any:
        """A new instance, or the one that there is."""
        return self._factory()

    def session(self) -> EnvSession:
        """A session with an instance of its own."""
        return EnvSession(self, self.make())

    def known_cls(self) -> Optional[type]:
        """The class of the instances, as far as it can be told without making one, or one was made."""
        if self._tried_cls is not None:
            return self._tried_cls
        if self.shared is not None:
            return type(self.shared)
        factory: Any = self._factory
        while isinstance(factory, functools.partial):
            factory = factory.func
        if isinstance(factory, type):
            return factory
        try:
            returned = typing.get_type_hints(factory).get("return")
        except (NameError, TypeError):
            # What its annotations name is known where it was written only.
            returned = None
        returned = typing.get_origin(returned) or returned
        return returned if isinstance(returned, type) and returned is not Environment else None

    def environment_cls(self) -> type:
        """The class of the instances; where that cannot be told, one is made and closed."""
        declared = self.known_cls()
        if declared is not None:
            return declared
        trial = self.session()
        trial.close()
        self._tried_cls = type(trial.env)
        return self._tried_cls

    @staticmethod
    def is_async(name: str, cls: type) -> bool:
        """True when the author has written `reset_async` or `step_async`, which then is used instead."""
        for base in cls.__mro__:
            if f"{name}_async" in base.__dict__:
                return base is not Environment and not base.__module__.startswith(BASES)
        return False

    def max_sessions(self) -> Optional[int]:
        """How many sessions one process may have: what was asked for, else as the class says; None is any number."""
        if self._max_sessions is not None:
            return self._max_sessions
        for base in (self.known_cls() or Environment).__mro__:
            if base is Environment or base.__module__.startswith(BASES):
                break
            if "SUPPORTS_CONCURRENT_SESSIONS" in base.__dict__:
                return None if base.__dict__["SUPPORTS_CONCURRENT_SESSIONS"] else 1
        return None

    def schemas(self) -> dict[str, Any]:
        """The JSON Schemas of action, observation and state, and of the first observation."""
        known, first = self._known_schemas, self._reset_observation_cls
        observation = known.get("observation") or codec_of(self._observation_cls).schema()
        return {
            "action": self.action_codec.schema(),
            "observation": observation,
            "state": codec_of(self._state_class()).schema(),
            "reset_observation": observation if first is None else codec_of(first).schema(),
            **known,
        }

    def _state_class(self) -> Any:
        if self._state_cls is not None:
            return self._state_cls
        found = inspect.getattr_static(self.environment_cls(), "state", None)
        function = found.fget if isinstance(found, property) else found
        try:
            hinted = typing.get_type_hints(function).get("return") if callable(function) else None
        except (NameError, TypeError):
            # A type variable, or a name that is not known here.
            hinted = None
        hinted = dict if typing.get_origin(hinted) is dict else hinted
        return hinted if isinstance(hinted, type) else State

    def about(self) -> dict[str, Any]:
        """What the environment says of itself."""
        cls = self.environment_cls()
        told = _metadata(cls)
        readme = told["readme_content"] or readme_beside(cls)
        return {
            "name": self.env_name or told["name"],
            "class": cls.__name__,
            "version": told["version"] or "1.0.0",
            "description": told["description"],
            "readme": readme,
            "schema": self.schemas(),
            "mcp": can_have_tools(cls),
            "tasks": any(callable(getattr(cls, name, None)) for name in TASK_METHODS),
            "checkpoints": self.shared is None or callable(getattr(cls, "checkpoint", None)),
            "max_sessions": self.max_sessions(),
            **self._more,
        }

    @property
    def spec(self) -> str:
        """`package.module:name`, by which another process finds this app. Raises RuntimeError where it has none."""
        for name, module in list(sys.modules.items()):
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if value is self:
                    if name == "__main__":
                        known = getattr(module, "__spec__", None)
                        file = getattr(module, "__file__", None)
                        name = known.name if known is not None else Path(str(file)).stem
                    return f"{name}:{attribute}"
        raise RuntimeError("the app is no attribute of a module: name it there, as in `app = create_app(…)`")

    def run(self, host: str = "127.0.0.1", port: int = 8000, arguments: tuple[str, ...] = ()) -> None:
        """Serves the app until it is told to stop: this process becomes `hothouse env serve`.

        `arguments` are further ones of that program. Listening on an address that other machines reach says
        `--insecure`, for nobody there is asked who they are.
        """
        from ..local import binary

        command = [binary(), "env", "serve", self.spec, "--host", host, "--port", str(port), *arguments]
        if not host.startswith("127.") and host not in ("localhost", "::1"):
            command.append("--insecure")
        # The worker has to find the module, as this process did.
        places = [place or str(Path.cwd()) for place in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(command[0], command, environment)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one connection of an ASGI server."""
        if self._asgi is None:
            from .asgi import Asgi

            self._asgi = Asgi(self)
        await self._asgi(scope, receive, send)


def _metadata(cls: type) -> dict[str, Any]:
    """What `get_metadata` says, asked of an instance that was never initialized: one may be dear."""
    name = cls.__name__
    told = {"name": name, "description": f"{name} environment", "readme_content": None, "version": "1.0.0"}
    method: Any = getattr(cls, "get_metadata", None)
    if method is None or method is Environment.get_metadata:
        return told
    try:
        blank: Any = object.__new__(cls)
        said = method(blank)
    except Exception as error:  # noqa: BLE001
        # It wants what only an initialized instance has.
        print(f"hothouse: {name}.get_metadata was left out: {error!r}", file=sys.stderr)
        return told
    return {**told, **{key: getattr(said, key) for key in told if getattr(said, key, None) is not None}}


def readme_beside(cls: type) -> Optional[str]:
    """The README.md of an environment: beside its module, or in the directory above, which `server/` lies in."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or cls.__module__.partition(".")[0] == "hothouse":
        return None
    for directory in list(Path(file).resolve().parents)[:2]:
        readme = directory / "README.md"
        if readme.is_file():
            return readme.read_bytes()[:LONGEST_README_BYTES].decode("utf-8", "replace")
        if directory.name != "server":
            break
    return None


def create_app(
    env: Any,
    action_cls: Any,
    observation_cls: Any,
    env_name: Optional[str] = None,
    max_concurrent_envs: Optional[int] = None,
    concurrency_config: Optional[ConcurrencyConfig] = None,
    gradio_builder: Any = None,
    custom_tab_name: str = "Custom",
    custom_tab_primary: bool = False,
    show_default_tab: bool = True,
    title_override: Optional[str] = None,
    state_cls: Any = None,
    *,
    mode: Optional[str] = None,
    reset_observation_cls: Any = None,
) -> App:
    """An app of an environment: its class or a factory, or one instance that all clients share.

    What is about a page for people, from `gradio_builder` to `title_override`, is taken and not used: Hothouse has
    its own. `mode` and the time after which an idle session ends are for whoever serves the app to say.
    """
    if concurrency_config is not None:
        max_concurrent_envs = concurrency_config.max_concurrent_envs
    if max_concurrent_envs is not None and max_concurrent_envs < 1:
        raise ValueError(f"max_concurrent_envs is {max_concurrent_envs}; at least 1 is needed")
    return App(
        env,
        action_cls,
        observation_cls,
        env_name=env_name,
        max_sessions=max_concurrent_envs,
        state_cls=state_cls,
        reset_observation_cls=reset_observation_cls,
    )


def create_fastapi_app(
    env: Any,
    action_cls: Any,
    observation_cls: Any,
    max_concurrent_envs: Optional[int] = None,
    concurrency_config: Optional[ConcurrencyConfig] = None,
    env_name: Optional[str] = None,
    state_cls: Any = None,
    *,
    mode: Optional[str] = None,
    reset_observation_cls: Any = None,
) -> App:
    """The same as `create_app`, by the name that environments have always used. No FastAPI is in it."""
    return create_app(
        env,
        action_cls,
        observation_cls,
        env_name=env_name,
        max_concurrent_envs=max_concurrent_envs,
        concurrency_config=concurrency_config,
        state_cls=state_cls,
        mode=mode,
        reset_observation_cls=reset_observation_cls,
    )
