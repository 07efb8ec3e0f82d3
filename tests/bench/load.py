"""Load from a separate process, so that the server has a core to itself.

The client is `wrk` if installed, else this module, whose own speed then limits the figures.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.table import percentile

WRK = shutil.which("wrk")
CLIENT = "wrk" if WRK else "httpx, which is slower than the server"

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("\\n%%d %%f %%f %%f %%d\\n", summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """The figures of one request repeated on persistent connections; times in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float

    def __str__(self) -> str:
        pace = f"{self.requests / self.seconds:,.0f} requests/s"
        return f"{pace}, latency p50 {self.p50 * 1000:.1f} ms, p99 {self.p99 * 1000:.1f} ms"


def load(url: str, body: str, connections: int, seconds: int, folder: Path) -> Load:
    """Post `body` again and again on `connections` connections for `seconds`."""
    if WRK is None:
        script = [sys.executable, "-m", "tests.bench.load"]
    else:
        lua = folder / "post.lua"
        lua.write_text(_SCRIPT % body)
        script = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s", f"-s{lua}", url]
    arguments = [] if WRK else [url, body, str(connections), str(seconds)]
    ran = subprocess.run([*script, *arguments], capture_output=True, text=True, check=True)
    requests, took, p50, p99, errors = ran.stdout.splitlines()[-1].split()
    assert int(errors) == 0, ran.stdout
    return Load(int(requests), float(took), float(p50), float(p99))


async def _post(url: str, body: str, connections: int, seconds: float) -> None:
    latencies: list[float] = []
    begun = time.perf_counter()

    async def post_until_the_end(http: httpx.AsyncClient) -> None:
        while (sent := time.perf_counter()) < begun + seconds:
            response = await http.post(url, content=body)
            response.raise_for_status()
            latencies.append(time.perf_counter() - sent)

    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        await asyncio.gather(*(post_until_the_end(http) for _ in range(connections)))
    took = time.perf_counter() - begun
    print(len(latencies), took, percentile(latencies, 0.5), percentile(latencies, 0.99), 0)


if __name__ == "__main__":
    url, body, connections, seconds = sys.argv[1:]
    json.loads(body)
    asyncio.run(_post(url, body, int(connections), float(seconds)))
