"""Job types, one module per type: the arguments and the result, as frozen dataclasses."""

from importlib import import_module
from pkgutil import iter_modules

from app.domain.job_types.base import (
    ArgsT,
    Catalogue,
    JobArgs,
    JobResult,
    TreeSize,
    args_class,
    register,
)

__all__ = [
    "ArgsT",
    "Catalogue",
    "JobArgs",
    "JobResult",
    "TreeSize",
    "args_class",
    "register",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
