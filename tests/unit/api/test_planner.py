"""Plans are cached per document, and freed with it."""

import asyncio
import gc
from typing import cast
from weakref import ref

import pytest

from app.api.auth.limits import Limits
from app.api.graphql.admission.documents import Documents
from app.api.graphql.admission.request import GraphQLRequest
from app.api.graphql.plans.planner import Planner, ReferenceExecutor
from app.api.graphql.schema import graphql_schema, schema
from app.domain.callers import EVERY_SCOPE, Caller
from app.storage.engine.database import Database

QUERY = """
query ($first: Int, $slim: Boolean = false) {
    jobs(first: $first) { totalCount nodes { ...Facts errors { nodes { code } } } }
    node(id: "nowhere") { __typename id ... on Hierarchy { name children { totalCount } } }
}
fragment Facts on Job { id status @skip(if: $slim) duplication { source { id description } } }
"""
MUTATION = """
mutation ($id: ID!) {
  cancelJob(input: {jobId: $id}) { job { id } errors { __typename ... on UserError { message } } }
}
"""


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        pytest.param(QUERY, {"first": 3}, id="query"),
        pytest.param(MUTATION, {"id": "nothing"}, id="mutation"),
    ],
)
def test_plans_are_freed_with_their_document(text: str, variables: dict[str, object]) -> None:
    # Compilation reads and executes nothing.
    planner = Planner(schema, cast(Database, None), cast(ReferenceExecutor, None))
    documents = Documents(graphql_schema, Limits())
    request = GraphQLRequest(text, None, None, variables)
    operation = asyncio.run(documents.admit(request, Caller("alpha", scopes=EVERY_SCOPE)))
    assert planner._plan(operation) is not None
    assert planner._plan(operation) is planner._plan(operation)
    assert len(planner._plans_of) == 1
    document = ref(operation.document)
    # Its thread drops the document a moment after it has returned it.
    documents._threads.close()
    del operation, documents
    gc.collect()
    assert document() is None
    assert len(planner._plans_of) == 0
