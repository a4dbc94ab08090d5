"""Log messages of a process that does cases: collected there, and logged by the run's own process."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import QueueHandler
from queue import SimpleQueue


@contextmanager
def collected() -> Iterator[list[logging.LogRecord]]:
    """Collect what is logged in the block, as messages that can be sent; they are there when it has ended."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    messages: list[logging.LogRecord] = []
    root.handlers = [QueueHandler(queue)]
    root.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        root.handlers = handlers
        root.setLevel(level)
        messages += [queue.get() for _ in range(queue.qsize())]


def log_again(messages: Sequence[logging.LogRecord]) -> None:
    """Log what a process had to say, as if it had been said here."""
    for message in messages:
        own = logging.getLogger(message.name)
        if own.isEnabledFor(message.levelno):
            own.handle(message)
