"""A worker process that can no longer encode queries is replaced."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sceneseek.bundle import Bundle
from tests.running import running

# Each process of the service runs this at its start. If the file `hang` exists, the next encoding deletes it and hangs.
HANGING = """
import functools, pathlib, time
import sceneseek.batching, sceneseek.encoders

encode_tokens, flag = sceneseek.encoders.TextEncoder.encode_tokens, pathlib.Path(__file__).with_name("hang")

def hang(self, tokens):
    if flag.exists():
        flag.unlink()
        time.sleep(3600)
    return encode_tokens(self, tokens)

sceneseek.encoders.TextEncoder.encode_tokens = hang
sceneseek.batching.Batching = functools.partial(sceneseek.batching.Batching, hang_after=1)
"""


def test_hanging_worker_is_replaced(bundle: Bundle, index_url: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    index = shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    options = ("--bundle", bundle.path, "--index", f"file:{index}", "--deadline", "2")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with running(*options, PYTHONPATH=path) as service, ThreadPoolExecutor() as pool:
        assert service.get("/v1/search?q=a+red+circle")[0] == 200
        (tmp_path / "hang").touch()
        hung = pool.submit(service.get, "/v1/search?q=a+blue+square")
        while (tmp_path / "hang").exists():
            time.sleep(0.01)
        assert isinstance(hung.exception(60), OSError), "the connection closes when the worker ends"
        assert service.get("/v1/search?q=a+green+triangle")[0] == 200
        assert service.get("/readyz")[0] == 200
