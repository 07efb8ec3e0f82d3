"""hierarchy-duplicate: a deep copy of a hierarchy (reference/duplicate-a-hierarchy.txt)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from app.domain.attributes import checked_name, checked_text
from app.domain.callers import Scope
from app.domain.job_types.base import Catalogue, JobArgs, JobResult, TreeSize, register
from app.domain.jobs import JobType


@dataclass(frozen=True, slots=True)
class DuplicationResult(JobResult):
    """The complete copy."""

    hierarchy_id: UUID

    @property
    def result_id(self) -> UUID:
        return self.hierarchy_id

    def meta(self) -> Mapping[str, object]:
        return {"hierarchy_id": self.hierarchy_id}


@register
@dataclass(frozen=True, slots=True)
class Duplication(JobArgs):
    """The source, and attributes of the copy. None keeps the source's text."""

    job_type: ClassVar[JobType] = JobType.HIERARCHY_DUPLICATE
    result: ClassVar[type[JobResult]] = DuplicationResult
    # The job creates a hierarchy.
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.HIERARCHIES_WRITE})

    source_id: UUID
    name: str | None = None
    description: str | None = None
    include_products: bool = False

    def check(self) -> None:
        if self.name is not None:
            checked_name(self.name, "name")
        if self.description is not None:
            checked_text(self.description, "description")

    @property
    def subject_id(self) -> UUID:
        return self.source_id

    def items(self, catalogue: Catalogue) -> int:
        return self.items_of(catalogue.hierarchy(self.source_id))

    def items_of(self, source: TreeSize) -> int:
        """Count the nodes, and the associations if they are copied."""
        return source.node_count + (source.association_count if self.include_products else 0)

    def meta(self) -> Mapping[str, object]:
        return {"copied_from": self.source_id}
