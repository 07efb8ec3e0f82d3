"""Create a database file with 50 hierarchies and a pending job, by the first `app` on the path.

Prints the ids of a hierarchy with departments and of the job.
"""

import asyncio
import sys

from app.settings import Settings
from app.wiring import open_database
from tests import factories
from tests.bench.documents import CATALOGUE, LOCALES


async def main(path: str) -> None:
    database = open_database(Settings(database_url=f"sqlite:///{path}"))
    for i in range(49):
        await factories.hierarchy(database, {"A": {}}, name=f"Catalogue {i}", locales=LOCALES)
    id = await factories.hierarchy(database, CATALOGUE, name="Departments", locales=LOCALES)
    job = await factories.pending_duplication(database, id)
    database.close()
    print(id, job.id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
