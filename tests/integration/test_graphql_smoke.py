from app.main import Gateway
from tests import given
from tests.conftest import GraphQLClient

async def test_smoke(gateway: Gateway, client: GraphQLClient) -> None:
    id = await given.hierarchy(gateway.database, {"a": {"b": {}}}, products={"b": ["1"]})
    print(await client.data("{hierarchies{totalCount edges{cursor node{id name children{nodes{id name breadcrumbs{id name} products{nodes{sku} edges{curated}}}}}}}}"))
    print(await client.refusal("{hierarchies(first:0){totalCount}}"))
