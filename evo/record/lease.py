"""The lease of a driver on the mirror of its run: a record that it renews while it runs.

It keeps a second machine from resuming the same run by mistake; it is no lock, since two drivers
that take it in the same second both succeed. Clocks of the machines must agree to a minute.
"""

import os
import socket
import time
from typing import Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

FILE = "lease.json"
STALE_SECONDS = 120.0  # after which a lease that was not renewed is over


class Lease(BaseModel):
    """A driver's process, and when it last said that it runs (Unix seconds)."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    token: str  # apart for each launch and resume
    time: float

    @classmethod
    def own(cls) -> Self:
        """A new lease of this process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), token=uuid4().hex, time=time.time())

    @classmethod
    def parse(cls, content: bytes) -> Self | None:
        """The lease in a file or object; None if it is none."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None

    @property
    def seconds_left(self) -> float:
        """Seconds until it is over, unless it is renewed; negative if it is."""
        return self.time + STALE_SECONDS - time.time()

    @property
    def held(self) -> bool:
        """True while its driver runs, or may run: a process of this machine is looked for."""
        if self.host != socket.gethostname():
            return self.seconds_left > 0
        if self.pid == os.getpid():  # as in a container that was started again
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's process
            pass
        return self.seconds_left > 0
