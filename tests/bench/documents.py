"""The documents that benchmarks send."""

from tests import factories

LOCALES = {
    "de-DE": {"name": "Gartenmöbel", "description": "Alles für draußen."},
    "fr-FR": {"name": "Meubles de jardin", "description": "Tout pour l'extérieur."},
}

CATALOGUE: factories.Tree = {
    f"Department {i}": {f"Category {i}.{k}": {} for k in range(10)} for i in range(20)
}

HIERARCHIES = """{
    hierarchies(first: 50) { nodes {
        id name(locale: "de-DE") description slug owner nodeCount createdAt updatedAt
        localizations { locale name description }
    } }
}"""

JOB = """query($id: ID!) {
    job(id: $id) {
        id type status createdAt startedAt completedAt updatedAt version canCancel queuePosition
        progress { completed total ratio } duplication { sourceId name includeProducts }
    }
}"""

TREE = """query($id: ID!) {
    hierarchy(id: $id) {
        id name
        children(first: 20) { nodes {
            id name slug children(first: 10) { nodes { id name slug sortOrder } }
        } }
    }
}"""

ENQUEUE = """mutation($id: ID!) {
    duplicateHierarchy(input: {hierarchyId: $id}) { job { id status } errors { __typename } }
}"""
