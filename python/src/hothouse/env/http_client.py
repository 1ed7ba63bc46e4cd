"""A client over HTTP, as the first ones of OpenEnv were: for servers of that time and `--http-session shared`.

A server of today answers each request with an environment of its own; use `EnvClient` for those.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Optional, TypeVar

import httpx

from .errors import EnvError
from .hooks import ActT, Hooks, ObsT, StateT
from .providers import Contained, EnvProvider, Running, Served
from .results import StepResult

ClientT = TypeVar("ClientT", bound="HTTPEnvClient[Any, Any, Any]")


class HTTPEnvClient(Hooks[ActT, ObsT, StateT]):
    """An environment over HTTP. Cookies are kept, so that `--http-session per-client` gives each client its own."""

    def __init__(
        self,
        base_url: str,
        request_timeout_s: float = 60.0,
        default_headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._timeout_s = request_timeout_s
        self._http = httpx.Client(timeout=request_timeout_s, headers=dict(default_headers or {}))
        self._running: Optional[Running] = None

    @classmethod
    def from_env(cls: type[ClientT], name: str, *arguments: str, **settings: Any) -> ClientT:
        """Serves an environment privately, with one session for all requests. See `EnvClient.from_env`."""
        return cls._of(Served(name, "--http-session", "shared", *arguments), settings)

    @classmethod
    def from_image(
        cls: type[ClientT],
        image: str,
        provider: Optional[EnvProvider] = None,
        settings: Optional[Mapping[str, Any]] = None,
        **kwargs: Any,
    ) -> ClientT:
        """Runs an image in Docker, or what `provider` runs. `kwargs` go to the provider."""
        return cls._of(Contained(image, provider, **kwargs), settings or {})

    from_docker_image = from_image

    @classmethod
    def _of(cls: type[ClientT], running: Running, settings: Mapping[str, Any]) -> ClientT:
        try:
            client = cls(base_url=running.url, **settings)
        except BaseException:
            running.end()
            raise
        client._running = running
        return client

    def sync(self: ClientT) -> ClientT:
        """This client, which blocks already."""
        return self

    def reset(self, **arguments: Any) -> StepResult[ObsT]:
        """Begins an episode."""
        return self._parse_result(self._ask("POST", "/reset", arguments))

    def step(self, action: ActT) -> StepResult[ObsT]:
        """Acts."""
        return self._parse_result(self._ask("POST", "/step", {"action": self._step_payload(action)}))

    def state(self) -> StateT:
        """What the environment says of its episode."""
        return self._parse_state(self._ask("GET", "/state", None))

    def _ask(self, method: str, path: str, body: Optional[dict[str, Any]]) -> Any:
        try:
            answer = self._http.request(method, self._base + path, json=body)
        except httpx.TimeoutException as error:
            raise EnvError(f"{path}: no answer within {self._timeout_s:g} s (request_timeout_s)", "TIMEOUT") from error
        except httpx.TransportError as error:
            raise EnvError(f"cannot reach {self._base}{path}: {error}", "CONNECTION_FAILED") from error
        if not answer.is_success:
            raise refused(path, answer)
        try:
            return answer.json()
        except ValueError as error:
            raise EnvError(f"{path}: the answer is no JSON: {answer.text[:200]!r}", "BAD_ANSWER") from error

    def close(self) -> None:
        """Closes the connections, and ends the server where this client started it."""
        self._http.close()
        running, self._running = self._running, None
        if running is not None:
            running.end()

    def __enter__(self: ClientT) -> ClientT:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def refused(path: str, answer: httpx.Response) -> EnvError:
    """The error of an answer: its `detail` is a text, or a list of what is wrong where."""
    try:
        body = answer.json()
    except ValueError:
        # A proxy's page, perhaps.
        body = answer.text[:500]
    detail = body.get("detail", body) if isinstance(body, dict) else body
    code = body.get("code") if isinstance(body, dict) else None
    data = body if isinstance(body, dict) else None
    if isinstance(detail, list):
        return EnvError(f"{path} was refused ({answer.status_code})", code or "VALIDATION_ERROR", detail, data)
    return EnvError(f"{path} was refused ({answer.status_code}): {detail}", code, None, data)
