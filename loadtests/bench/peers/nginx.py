"""A peer: nginx with Lua that calls the same function once a like. It checks no token and gives no receipt."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dianzan.domain.campaign import Document
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.local.folder import HOST
from dianzan.store import keys
from loadtests.bench.bed import Bed
from loadtests.bench.cores import on_core
from loadtests.bench.errors import BenchError, Skipped
from loadtests.stores import Server
from loadtests.system import free_port

MODULES = Path("/usr/lib/nginx/modules")
NEEDED = ("ndk_http_module.so", "ngx_http_lua_module.so")
CONFIGURATION = Path(__file__).with_name("nginx.conf")
START_S_MAX = 10.0


@contextmanager
def serving(bed: Bed, document: Document) -> Iterator[Server]:
    """One nginx process on the server's core. Raises Skipped if nginx or its Lua module is not installed."""
    program = shutil.which("nginx")
    if program is None or not all((MODULES / name).is_file() for name in NEEDED):
        raise Skipped("nginx with Lua is not installed: apt install nginx-light libnginx-mod-http-lua")
    folder, port = bed.folder / "nginx", free_port()
    folder.mkdir()
    (folder / "nginx.conf").write_text(_configuration(bed, document, port), encoding="utf-8")
    with on_core(bed.cores, "server"):
        process = subprocess.Popen(
            [program, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"], stdin=subprocess.DEVNULL
        )
    try:
        _wait(process, folder)
        yield Server("nginx", port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while not (folder / "nginx.pid").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"nginx did not start:\n{(folder / 'error.log').read_text()}")
        time.sleep(0.02)


def _configuration(bed: Bed, document: Document, port: int) -> str:
    store, rules = urlsplit(bed.addresses.redis_url), document.rules
    window = rules.window_at(now_ms())
    shards = [
        (keys.gate(Shard(rules.id, n)), keys.counts(Shard(rules.id, n)), keys.stream(Shard(rules.id, n)), prefix)
        for n, prefix in ((n, keys.marks_prefix(Shard(rules.id, n), window.day)) for n in range(rules.shards))
    ]
    filled = {
        "@MODULES@": "\n".join(f"load_module {MODULES / name};" for name in NEEDED),
        "@PORT@": f"{HOST}:{port}",
        "@STORE_PORT@": str(store.port),
        "@PASSWORD@": str(store.password),
        "@SHARDS@": ", ".join("{ " + ", ".join(f"'{key}'" for key in each) + " }" for each in shards),
        "@WINDOW@": f"'{document.version}', '{window.day}', '{window.start_ms}', '{window.end_ms}'",
    }
    text = CONFIGURATION.read_text(encoding="utf-8")
    for name, value in filled.items():
        text = text.replace(name, value)
    return text
