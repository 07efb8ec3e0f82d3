"""The garbage collection of a server."""

import gc
import weakref

from app.api.http import uvicorn_servers
from app.api.http.uvicorn_servers import GC_OBJECTS, collect_garbage


class Knot:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_old_cyclic_garbage_is_collected_once_there_are_many_new_objects() -> None:
    thresholds = gc.get_threshold()
    gc.collect()
    # As in a server: the automatic collections do not reach the oldest generation.
    gc.set_threshold(*uvicorn_servers.GC_THRESHOLDS)
    try:
        knot = Knot()
        lost = weakref.ref(knot)
        gc.collect(0)
        gc.collect(1)
        del knot
        kept = [[n] for n in range(GC_OBJECTS)]
        assert lost() is not None
        collect_garbage()
        assert lost() is None
        assert len(kept) == GC_OBJECTS
    finally:
        gc.set_threshold(*thresholds)
