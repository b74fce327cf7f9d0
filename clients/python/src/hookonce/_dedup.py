"""A key under a lease: kept up while it is handled, done afterwards, given back where that fails."""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from ._context import Lease, ThreadBeats, beat
from ._errors import HookonceError
from ._execute import surely
from ._protocol import ABANDON_GIVE_UP, KeyGrant

if TYPE_CHECKING:
    from ._ledger import Ledger


class DedupLease:
    """A key under a lease. `first`: it is yours to handle; else it was handled before.

    As `with`, or `async with`, it beats at a third of the lease, says at the end that the key is handled, and gives the key back at once
    where the block raises, so that the message that comes again finds it free.
    """

    def __init__(self, ledger: "Ledger", key: str, grant: KeyGrant | None, lease: Lease) -> None:
        self._ledger, self._grant, self._lease = ledger, grant, lease
        self.key = key
        self._pid = os.getpid()
        self._beats: ThreadBeats | None = None
        self._beating: asyncio.Future[None] | None = None

    @property
    def first(self) -> bool:
        """It is yours to handle."""
        return self._grant is not None

    @property
    def lost(self) -> bool:
        """The ledger has said that another has the key."""
        return self._lease.lost

    @property
    def heartbeats(self) -> int:
        """How often the lease was extended."""
        return self._lease.heartbeats

    def check(self) -> None:
        """Raises `LeaseLost` where the key is lost, or its lease has run out unextended: call it just before an effect."""
        if self.first:
            self._lease.check()

    def done(self) -> None:
        """Says that the key is handled; `LeaseLost` where another has it now."""
        if self._grant is not None:
            self._ledger.drive(self._ledger.protocol.key_done(self._grant))

    async def adone(self) -> None:
        """The same for asyncio."""
        if self._grant is not None:
            await self._ledger.adrive(self._ledger.protocol.key_done(self._grant))

    def heartbeat(self) -> None:
        """Extends the lease, for who does not use it as `with`."""
        if self._grant is not None:
            sent = self._lease.clock()
            self._ledger.drive(self._ledger.protocol.key_heartbeat(self._grant, self._lease.seconds))
            self._lease.extended(sent)

    async def aheartbeat(self) -> None:
        """The same for asyncio."""
        if self._grant is not None:
            sent = self._lease.clock()
            await self._ledger.adrive(self._ledger.protocol.key_heartbeat(self._grant, self._lease.seconds))
            self._lease.extended(sent)

    def release(self) -> None:
        """Gives the key back: it was not handled, and the next who asks has it."""
        if self._grant is not None:
            self._ledger.drive(self._ledger.protocol.key_release(self._grant))

    async def arelease(self) -> None:
        """The same for asyncio."""
        if self._grant is not None:
            await self._ledger.adrive(self._ledger.protocol.key_release(self._grant))

    def __enter__(self) -> "DedupLease":
        if (grant := self._grant) is not None:
            protocol, seconds = self._ledger.protocol, self._lease.seconds
            self._beats = ThreadBeats(self._ledger, self._lease, lambda give_up: protocol.key_heartbeat(grant, seconds, give_up))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._beats is not None:
            self._beats.tell()
        if self._grant is None or self._pid != os.getpid():
            # A forked child leaves the block too; the key is its parent's.
            return
        if kind is None:
            self.done()
            return
        with contextlib.suppress(HookonceError):
            self._ledger.drive(self._ledger.protocol.key_release(self._grant, ABANDON_GIVE_UP))

    async def __aenter__(self) -> "DedupLease":
        if (grant := self._grant) is not None:
            protocol, seconds = self._ledger.protocol, self._lease.seconds
            beats = beat(self._ledger, self._lease, lambda give_up: protocol.key_heartbeat(grant, seconds, give_up))
            self._beating = asyncio.ensure_future(beats)
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if self._beating is not None:
            self._beating.cancel()
        grant = self._grant
        if grant is None or self._pid != os.getpid():
            return
        if kind is None:
            # What is handled is said to be, even where the caller goes away just now.
            done = asyncio.ensure_future(self.adone())
            cancelled = await surely(done)
            done.result()
            if cancelled is not None:
                raise cancelled
        elif isinstance(error, GeneratorExit):
            self._ledger.aside(lambda: self._ledger.protocol.key_release(grant, ABANDON_GIVE_UP))
        else:
            await surely(asyncio.ensure_future(self._give_back(grant)))

    async def _give_back(self, grant: KeyGrant) -> None:
        with contextlib.suppress(HookonceError):
            await self._ledger.adrive(self._ledger.protocol.key_release(grant, ABANDON_GIVE_UP))
