"""One process at a time in a folder of results."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from .files import remove_leftovers

LOCK = ".lock"


class FolderInUse(ValueError):
    """Another process writes to the folder."""


class FolderLock:
    """Keeps other runs out of a folder until it is released; what killed runs were writing there is removed.

    A part of a run has a lock of its own and removes nothing, since others may be at work on other machines. The system
    holds the lock on the file `.lock` for the process, so that of a killed one is free. Where the file
    system has no locks, nothing is kept out.

    Args:
        folder: made if need be.
        name: of the lock; that of a part has another than `LOCK`.

    Raises:
        FolderInUse: another run is at work there; the message names it.
        OSError: nothing can be written there.
    """

    def __init__(self, folder: str | Path, name: str = LOCK) -> None:
        self.path = Path(folder) / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file: IO[str] | None = None
        while self.file is None:
            file = open(self.path, "a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "another process"
                file.close()
                raise FolderInUse(
                    f"{folder} is in use by {owner}: wait until it has ended, or give another folder"
                ) from None
            except OSError:
                self.file = file
                break
            if self._is_current(file):
                self.file = file
            else:
                file.close()  # its owner has removed it meanwhile
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self.file.flush()
        if name == LOCK:
            remove_leftovers(folder)

    def _is_current(self, file: IO[str]) -> bool:
        try:
            return os.fstat(file.fileno()).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            return False

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let others in."""
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()
            self.file = None
