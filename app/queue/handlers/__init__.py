"""Handlers of jobs, one module per job type: a class that implements Handler, and `handler`, the
class, which is called with the Dependencies. For the other files of a job type see
docs/how-to/extend.md.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules

from app.domain.jobs import JobType
from app.queue.handler import Dependencies, Handler


def find_handlers(dependencies: Dependencies) -> Mapping[JobType, Handler]:
    """Import every module of this package. Return its handler by job type."""
    handlers: dict[JobType, Handler] = {}
    for module in iter_modules(__path__):
        make: Callable[[Dependencies], Handler]
        make = import_module(f"{__name__}.{module.name}").handler
        handler = make(dependencies)
        if handler.type in handlers:
            raise TypeError(f"two handlers for {handler.type}")
        handlers[handler.type] = handler
    return handlers
