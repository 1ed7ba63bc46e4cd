"""An app as an ASGI application, for images that start one with uvicorn: HTTP and `/ws` as OpenEnv has them.

`hothouse env serve` does more and does it faster: many sessions on one connection, exactly-once steps, forks. Here a
WebSocket is one session, and a request over HTTP has an instance of its own, or the one that all share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

from .codec import Invalid, object_of
from .scalars import WRONG, Errors, bounded, check_float, check_int, check_str
from .session import EnvSession
from .texts import text
from .tools import METHOD_NOT_FOUND, ToolFailed, answered
from .validation import placed

if TYPE_CHECKING:
    from .app import App

AnswerT = TypeVar("AnswerT")
LONGEST_BODY_BYTES = 16 << 20
RESET_CHECKS = {"seed": bounded(check_int, {"ge": 0}), "episode_id": bounded(check_str, {"max_length": 255})}
STEP_CHECKS = {"timeout_s": bounded(check_float, {"gt": 0}), "request_id": bounded(check_str, {"max_length": 255})}
PARSE_ERROR, INVALID_REQUEST = -32700, -32600
HTTP_ROUTES = {
    "/health": "GET", "/state": "GET", "/schema": "GET", "/metadata": "GET",
    "/reset": "POST", "/step": "POST", "/mcp": "POST", "/openapi.json": "GET",
}  # fmt: skip
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "OpenEnv Environment HTTP API", "version": "1.0.0"},
    "paths": {
        path: {method.lower(): {"responses": {"200": {"description": "Successful Response"}}}}
        for path, method in HTTP_ROUTES.items()
        if path != "/openapi.json"
    },
}


class Refused(Exception):
    """An answer of HTTP that is no success."""

    def __init__(self, status: int, body: bytes, kind: str = "application/json") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.kind = kind


def observed(said: bytes, http: bool) -> bytes:
    """The four lines of an observation as one object. Over HTTP a reward is a real number."""
    fields, reward, done, metadata = said.split(b"\n")
    nested = b"{}" if metadata == b"null" else metadata
    inner = b'{"metadata":' + nested + (b"," if fields != b"{}" else b"") + fields[1:]
    if http and reward in (b"true", b"false"):
        reward = b"1.0" if reward == b"true" else b"0.0"
    elif http and reward.lstrip(b"-").isdigit():
        reward += b".0"
    whole = b'{"observation":' + inner + b',"reward":' + reward + b',"done":' + done
    if nested != b"{}":
        return whole + b',"metadata":' + nested + b"}"
    return whole + (b',"metadata":null}' if http else b"}")


class Asgi:
    """Serves the connections of an ASGI server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._active = 0
        self._threads = ThreadPoolExecutor(thread_name_prefix="hothouse-http")
        self._about: Optional[dict[str, Any]] = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["path"] == "/ws":
            await self._websocket(receive, send)
        else:
            # The handshake is refused.
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self._threads.shutdown(wait=False)
                return

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        status = 200
        try:
            body = await self._answered(scope["method"], scope["path"], receive)
        except Refused as refused:
            status, body = refused.status, refused.body
            headers = [(b"content-type", refused.kind.encode())]
            if status == 405:
                headers.append((b"allow", HTTP_ROUTES[scope["path"]].encode()))
        except Invalid as invalid:
            status, body = 422, b'{"detail":' + invalid.text + b"}"
        except Exception:  # noqa: BLE001
            # The author's own; clients are told no more than that.
            traceback.print_exc(file=sys.stderr)
            status, body = 500, b"Internal Server Error"
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, method: str, path: str, receive: Any) -> bytes:
        if path not in HTTP_ROUTES:
            raise Refused(404, b'{"detail":"Not Found"}')
        if method != HTTP_ROUTES[path]:
            raise Refused(405, b'{"detail":"Method Not Allowed"}')
        if path == "/health":
            return b'{"status":"healthy"}'
        if path == "/openapi.json":
            return text(OPENAPI)
        if path in ("/schema", "/metadata"):
            return await self._run(self._threads, self._told, path)
        if path == "/state":
            return await self._once(lambda session: session.state())
        body = await _body(receive)
        if path == "/mcp":
            return await self._once_mcp(body)
        given = _parsed(body, path == "/reset")
        if path == "/reset":
            kwargs = text(_checked(given, RESET_CHECKS))
            return observed(await self._episode(lambda session: session.reset(kwargs), "reset", kwargs), True)
        if "action" not in given:
            raise Invalid([{"type": "missing", "loc": ["body", "action"], "msg": "Field required", "input": given}])
        errors: Errors = []
        if not isinstance(given["action"], dict):
            error = {"type": "dict_type", "loc": ["body", "action"], "msg": "Input should be a valid dictionary"}
            raise Invalid([*errors, {**error, "input": given["action"]}])
        more = _checked(given, STEP_CHECKS)
        step = text({"action": more.pop("action"), "kwargs": more})
        return observed(await self._episode(lambda session: session.step_with(step), "step_with", step), True)

    def _told(self, path: str) -> bytes:
        if self._about is None:
            self._about = self._app.about()
        about = self._about
        if path == "/schema":
            return text(about["schema"])
        more = {"author": None, "documentation_url": None}
        names = {"name": "class", "description": "description", "readme_content": "readme", "version": "version"}
        return text({**{name: about[key] for name, key in names.items()}, **more})

    async def _once(self, ask: Callable[[EnvSession], bytes]) -> bytes:
        """Asks an instance for this once, in a thread."""

        def asked() -> bytes:
            session = self._app.session()
            try:
                return ask(session)
            finally:
                session.close()

        return await self._run(self._threads, asked)

    async def _episode(self, ask: Callable[[EnvSession], bytes], kind: str, said: bytes) -> bytes:
        """The same, for what the author may have written as a coroutine."""
        session = await self._run(self._threads, self._app.session)
        try:
            if session.async_reset if kind == "reset" else session.async_step:
                later: bytes = await getattr(session, f"{kind}_later")(said)
                return later
            return await self._run(self._threads, ask, session)
        finally:
            await self._run(self._threads, session.close)

    async def _once_mcp(self, body: bytes) -> bytes:
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return text(_rpc_error(None, PARSE_ERROR, "Parse error"))
        return await self._once(lambda session: text(_rpc(session, request)))

    async def _websocket(self, receive: Any, send: Any) -> None:
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        most = self._app.max_sessions()
        if most is not None and self._active >= most:
            told = f"Server at capacity: {self._active}/{most} sessions active. Cannot accept new connections."
            counts = {"active_sessions": self._active, "max_sessions": most}
            await _refuse(send, told, "CAPACITY_REACHED", **counts)
            return
        self._active += 1
        # One thread for each session, as authors of such environments know it.
        thread = ThreadPoolExecutor(1, thread_name_prefix="hothouse-session")
        try:
            await self._session(receive, send, thread)
        finally:
            self._active -= 1
            thread.shutdown(wait=False)

    async def _session(self, receive: Any, send: Any, thread: ThreadPoolExecutor) -> None:
        try:
            session = await self._run(thread, self._app.session)
        except Exception:  # noqa: BLE001
            traceback.print_exc(file=sys.stderr)
            name = getattr(self._app.known_cls(), "__name__", "environment")
            told = f"Environment factory '{name}' failed to create instance."
            await _refuse(send, told, "FACTORY_ERROR", factory_name=name)
            return
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("text") is None:
                    await _refuse(send, "'text'", "SESSION_ERROR")
                    return
                reply = await self._replied(session, thread, message["text"])
                if reply is None:
                    await send({"type": "websocket.close", "code": 1000})
                    return
                await send({"type": "websocket.send", "text": reply.decode()})
        finally:
            try:
                await self._run(thread, session.close)
            except Exception:  # noqa: BLE001
                traceback.print_exc(file=sys.stderr)

    async def _replied(self, session: EnvSession, thread: ThreadPoolExecutor, said: str) -> Optional[bytes]:
        """The answer to a message; None ends the session."""
        try:
            message = json.loads(said)
        except ValueError as error:
            return _ws_error(f"Invalid JSON: {error}", "INVALID_JSON")
        kind = message.get("type") if isinstance(message, dict) else None
        if kind not in ("reset", "step", "state", "close", "mcp"):
            return _ws_error(f"Unknown message type: {kind}", "UNKNOWN_TYPE")
        if kind == "close":
            return None
        try:
            data = object_of(message.get("data", {}))
            return await self._message(session, thread, kind, data)
        except Invalid as invalid:
            errors = json.loads(invalid.text)
            return _ws_error("Invalid message", "VALIDATION_ERROR", errors=errors)
        except Exception as error:  # noqa: BLE001
            # The author's own; the session lives on.
            traceback.print_exc(file=sys.stderr)
            return _ws_error(str(error), "EXECUTION_ERROR")

    async def _message(self, session: EnvSession, thread: ThreadPoolExecutor, kind: str, data: Any) -> bytes:
        if kind == "state":
            return b'{"type":"state","data":' + await self._run(thread, session.state) + b"}"
        if kind == "mcp":
            return text({"type": "mcp", "data": await self._run(thread, _rpc, session, data)})
        said = text(data)
        if session.async_reset if kind == "reset" else session.async_step:
            seen: bytes = await getattr(session, f"{kind}_later")(said)
        else:
            ask: Callable[[bytes], bytes] = getattr(session, kind)
            seen = await self._run(thread, ask, said)
        return b'{"type":"observation","data":' + observed(seen, False) + b"}"

    @staticmethod
    async def _run(thread: ThreadPoolExecutor, function: Callable[..., AnswerT], *arguments: Any) -> AnswerT:
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


def _rpc(session: EnvSession, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request of JSON-RPC."""
    ident, method, params = request.get("id"), request.get("method"), request.get("params", {})
    if request.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, dict):
        return _rpc_error(ident, INVALID_REQUEST, "Invalid request: jsonrpc, method and params are wanted")
    try:
        if not method.startswith("tools/"):
            raise LookupError(method)
        return {"jsonrpc": "2.0", "id": ident, "result": answered(session.env, method, params)}
    except LookupError:
        return _rpc_error(ident, METHOD_NOT_FOUND, f"Method not found: {method}")
    except ToolFailed as failed:
        return _rpc_error(ident, failed.code, str(failed))


def _rpc_error(ident: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message, "data": None}}


def _ws_error(message: str, code: str, **more: Any) -> bytes:
    return text({"type": "error", "data": {"message": message, "code": code, **more}})


async def _refuse(send: Any, message: str, code: str, **more: Any) -> None:
    await send({"type": "websocket.send", "text": _ws_error(message, code, **more).decode()})
    await send({"type": "websocket.close", "code": 1000})


async def _body(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY_BYTES:
            raise Refused(413, b'{"detail":"Request body too large"}')
        if not message.get("more_body"):
            return bytes(body)


def _parsed(body: bytes, may_be_absent: bool) -> dict[str, Any]:
    if not body:
        if may_be_absent:
            return {}
        raise Invalid([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}])
    try:
        value = json.loads(body)
    except json.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ["body", error.pos], "msg": "JSON decode error", "input": {}}
        raise Invalid([{**problem, "ctx": {"error": error.msg}}]) from error
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise Invalid([{"type": "model_attributes_type", "loc": ["body"], "msg": message, "input": value}])
    return value


def _checked(given: dict[str, Any], checks: dict[str, Any]) -> dict[str, Any]:
    errors: Errors = []
    made = dict(given)
    for name, check in checks.items():
        if made.get(name) is None:
            # As if it had not been sent.
            made.pop(name, None)
        else:
            made[name] = placed(check, made[name], errors, "body", name)
    if errors or WRONG in made.values():
        raise Invalid(errors)
    return made
