"""Declarations of job types: arguments and results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar
from uuid import UUID

from app.domain.callers import Scope
from app.domain.jobs import JobType


class TreeSize(Protocol):
    """The size of a hierarchy."""

    @property
    def node_count(self) -> int: ...

    @property
    def association_count(self) -> int: ...


class Catalogue(Protocol):
    """The catalogue of a store, as far as requests of jobs depend on it."""

    def hierarchy(self, id: UUID) -> TreeSize:
        """Return the size of a hierarchy that the store can read. Raises NotFound."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a successful job: a frozen dataclass per job type.

    Its fields have values of JSON, or are ids or instants: they are stored as JSON.
    """

    @property
    def result_id(self) -> UUID | None:
        """The hierarchy that the job created, if it creates one."""
        return None

    def meta(self) -> Mapping[str, object]:
        """Return the members of `meta` in the job's document, for REST and webhooks."""
        return {}


@dataclass(frozen=True, slots=True)
class JobArgs:
    """The arguments of a job: a frozen dataclass per job type.

    Its fields have values of JSON, or are ids or instants: they are stored as JSON. A new
    field needs a default: jobs and idempotency keys of earlier versions do not have it.
    """

    job_type: ClassVar[JobType]
    result: ClassVar[type[JobResult]] = JobResult
    scopes: ClassVar[frozenset[Scope]] = frozenset()
    """Scopes for requesting the job, besides JOBS_WRITE."""

    @property
    def subject_id(self) -> UUID | None:
        """The hierarchy that the job reads, if it reads one."""
        return None

    def check(self) -> None:
        """Validate a client's input. Raises InvalidInput.

        Stored arguments are not checked again: rules may have become stricter since.
        """

    def items(self, catalogue: Catalogue) -> int:
        """Estimate the job's size in items. Raises NotFound for what it needs and lacks."""
        raise NotImplementedError

    def meta(self) -> Mapping[str, object]:
        """Return the members of `meta` in the job's document once it has started."""
        return {}


ArgsT = TypeVar("ArgsT", bound=JobArgs)

_ARGS: dict[JobType, type[JobArgs]] = {}


def register(args: type[ArgsT]) -> type[ArgsT]:
    """Declare a job type by its arguments; a class decorator."""
    if args.job_type in _ARGS:
        raise TypeError(f"two classes of arguments for {args.job_type}")
    _ARGS[args.job_type] = args
    return args


def args_class(job_type: JobType) -> type[JobArgs] | None:
    """Return the class of a job type's arguments, None for a type that this version lacks."""
    return _ARGS.get(job_type)
