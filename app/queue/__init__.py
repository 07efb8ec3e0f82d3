"""The queue: a dispatcher claims jobs, a worker runs one, its handler works through an attempt."""

from app.queue.dispatcher import Dispatcher

__all__ = ["Dispatcher"]
