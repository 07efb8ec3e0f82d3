"""Serve a peer in Python by uvicorn with the gateway's settings."""

import asyncio
import gc
import socket

import uvicorn
import uvloop
from starlette.types import ASGIApp


def serve(app: ASGIApp) -> None:
    """Serve `app` on a free port, whose URL is printed, until a signal."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"  GraphQL http://127.0.0.1:{listener.getsockname()[1]}/graphql", flush=True)
    config = uvicorn.Config(
        app, http="httptools", log_config=None, access_log=False, server_header=False
    )
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))
