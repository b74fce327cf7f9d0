"""How calls get to the server: HTTP clients by lane, for threads and for asyncio, made anew in a forked child."""

import asyncio
import ipaddress
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import httpx

from ._protocol import Call, Lane, Reply
from ._results import to_bytes

Transport = httpx.BaseTransport | Callable[[], httpx.BaseTransport]
AsyncTransport = httpx.AsyncBaseTransport | Callable[[], httpx.AsyncBaseTransport]

LIMITS = httpx.Limits(max_connections=128, max_keepalive_connections=16)
"""Of each lane. `WAITING_MAX` claims may hold a connection for long; all other calls end within milliseconds."""
POOL_SECONDS = 60.0


class Connections:
    """The HTTP clients of one ledger.

    Sockets can't be shared with a forked process: each would read the other's answers. So a child has clients of its own. It drops those
    of its parent and does not close them, since a thread that is not here may have held their locks.
    """

    def __init__(self, url: str, token: str, transport: Transport | None, async_transport: AsyncTransport | None) -> None:
        self._base = url.rstrip("/") + "/v1"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        # What is on this machine is not asked for through a proxy.
        self._trust_env = not _is_loopback(httpx.URL(url).host)
        # And without TLS there, no certificates need be read.
        self._verify = self._trust_env or httpx.URL(url).scheme == "https"
        self._given, self._async_given = transport, async_transport
        self._started = os.getpid()
        self.renew()

    def renew(self) -> None:
        """As new. The clients that were are dropped."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[Lane, httpx.Client] = {}
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Lane, httpx.AsyncClient]]
        self._async_clients = weakref.WeakKeyDictionary()

    @property
    def is_of_another_process(self) -> bool:
        """This process was forked, and nobody has said so."""
        return self._pid != os.getpid()

    def send(self, call: Call) -> Reply | None:
        """The answer, or None where there was none."""
        try:
            return _reply(self._client(call.lane).request(call.method, self._base + call.path, **self._content(call)))
        except httpx.TransportError:
            return None

    async def asend(self, call: Call) -> Reply | None:
        """The same for asyncio."""
        try:
            client = self._async_client(call.lane)
            return _reply(await client.request(call.method, self._base + call.path, **self._content(call)))
        except httpx.TransportError:
            return None

    def drop(self, lane: Lane) -> None:
        """What comes from the lane's connections can't be trusted: the next call opens new ones."""
        with self._lock:
            self._clients.pop(lane, None)
            for clients in list(self._async_clients.values()):
                clients.pop(lane, None)

    def close(self) -> None:
        """Closes those of threads."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    async def aclose(self) -> None:
        """Closes those of this loop, too."""
        for client in self._async_clients.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()
        self.close()

    def _client(self, lane: Lane) -> httpx.Client:
        with self._lock:
            client = self._clients.get(lane)
            if client is None:
                made = self._made(self._given, httpx.BaseTransport)
                client = httpx.Client(transport=made, **self._options)
                self._clients[lane] = client
            return client

    def _async_client(self, lane: Lane) -> httpx.AsyncClient:
        # Connections belong to the loop that opened them.
        clients = self._async_clients.setdefault(asyncio.get_running_loop(), {})
        client = clients.get(lane)
        if client is None:
            made = self._made(self._async_given, httpx.AsyncBaseTransport)
            client = httpx.AsyncClient(transport=made, **self._options)
            clients[lane] = client
        return client

    @property
    def _options(self) -> dict[str, Any]:
        return {"headers": self._headers, "trust_env": self._trust_env, "verify": self._verify, "limits": LIMITS}

    def _made(self, given: Any, kind: type) -> Any:
        """The transport that was given, or what the function that was given makes."""
        if given is None or not isinstance(given, kind):
            return given() if given is not None else None
        if os.getpid() != self._started and not isinstance(given, httpx.MockTransport):
            raise RuntimeError("the ledger's transport was made before this process was forked: give `transport` a function that makes one")
        return given

    def _content(self, call: Call) -> dict[str, Any]:
        timeout = httpx.Timeout(call.answer_seconds, connect=min(5.0, call.answer_seconds), pool=POOL_SECONDS)
        if call.method == "GET":
            return {"timeout": timeout}
        return {"content": to_bytes(call.body), "headers": {"content-type": "application/json"}, "timeout": timeout}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reply(response: httpx.Response) -> Reply | None:
    try:
        body = response.json()
    except ValueError:
        if response.status_code < 400:
            # Cut off, or not from a ledger: no answer.
            return None
        body = None
    retry_after = response.headers.get("retry-after", "")
    return Reply(response.status_code, body, float(retry_after) if retry_after.isdecimal() else None)
