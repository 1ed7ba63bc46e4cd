"""Transports that break what goes over them, at the real server: the answer is lost, or the request never sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Optional

import httpx

Wanted = Callable[[httpx.Request], bool]
Fault = Callable[[httpx.Request], Optional[httpx.Response]]


def is_to(method: str, path_end: str) -> Wanted:
    """Requests with this method and a path that ends so."""
    return lambda request: request.method == method and request.url.path.endswith(path_end)


class Breaking(httpx.SyncByteStream):
    """A body that breaks after its first piece."""

    def __init__(self, piece: bytes, error: Exception) -> None:
        self._piece = piece
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield self._piece
        raise self._error


class AsyncBreaking(httpx.AsyncByteStream):
    """As `Breaking`."""

    def __init__(self, piece: bytes, error: Exception) -> None:
        self._piece = piece
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._piece
        raise self._error


class Cut(httpx.SyncByteStream):
    """A body that breaks after its first piece, of a real answer."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._response.iter_raw():
            yield piece
            raise httpx.ReadError("the test cut the answer off")

    def close(self) -> None:
        self._response.close()


class AsyncCut(httpx.AsyncByteStream):
    """As `Cut`."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_raw():
            yield piece
            raise httpx.ReadError("the test cut the answer off")

    async def aclose(self) -> None:
        await self._response.aclose()


class _Count:
    def __init__(self, wanted: Wanted, times: int, fault: Fault) -> None:
        self.wanted = wanted
        self.left = times
        self.fault = fault
        self.seen: list[httpx.Request] = []

    def strikes(self, request: httpx.Request) -> bool:
        if not self.wanted(request):
            return False
        self.seen.append(request)
        if self.left == 0:
            return False
        self.left -= 1
        return True


def lost(request: httpx.Request) -> Optional[httpx.Response]:
    raise httpx.ReadError("the test lost the answer", request=request)


def late(request: httpx.Request) -> Optional[httpx.Response]:
    raise httpx.ReadTimeout("the test kept the answer back", request=request)


class LosingAnswers(_Count, httpx.BaseTransport):
    """The server gets and answers the request, but the answer is lost so many times."""

    def __init__(self, wanted: Wanted, times: int = 1, fault: Fault = lost) -> None:
        super().__init__(wanted, times, fault)
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        if self.strikes(request):
            response.read()
            self.fault(request)
        return response

    def close(self) -> None:
        self._real.close()


class AsyncLosingAnswers(_Count, httpx.AsyncBaseTransport):
    """As `LosingAnswers`."""

    def __init__(self, wanted: Wanted, times: int = 1, fault: Fault = lost) -> None:
        super().__init__(wanted, times, fault)
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        if self.strikes(request):
            await response.aread()
            self.fault(request)
        return response

    async def aclose(self) -> None:
        await self._real.aclose()


class Answering(_Count, httpx.BaseTransport):
    """No server is asked: the fault answers or raises, so many times; then the real one is."""

    def __init__(self, wanted: Wanted, times: int, fault: Fault) -> None:
        super().__init__(wanted, times, fault)
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.strikes(request):
            response = self.fault(request)
            assert response is not None
            return response
        return self._real.handle_request(request)

    def close(self) -> None:
        self._real.close()


class AsyncAnswering(_Count, httpx.AsyncBaseTransport):
    """As `Answering`."""

    def __init__(self, wanted: Wanted, times: int, fault: Fault) -> None:
        super().__init__(wanted, times, fault)
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.strikes(request):
            response = self.fault(request)
            assert response is not None
            return response
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


class Cutting(_Count, httpx.BaseTransport):
    """Answers break off after their first piece, so many times."""

    def __init__(self, wanted: Wanted, times: int) -> None:
        super().__init__(wanted, times, lost)
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        if self.strikes(request):
            return httpx.Response(response.status_code, headers=response.headers, stream=Cut(response))
        return response

    def close(self) -> None:
        self._real.close()


class AsyncCutting(_Count, httpx.AsyncBaseTransport):
    """As `Cutting`."""

    def __init__(self, wanted: Wanted, times: int) -> None:
        super().__init__(wanted, times, lost)
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        if self.strikes(request):
            return httpx.Response(response.status_code, headers=response.headers, stream=AsyncCut(response))
        return response

    async def aclose(self) -> None:
        await self._real.aclose()
