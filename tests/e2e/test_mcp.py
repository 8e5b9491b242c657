"""`sceneseek mcp` over stdio and HTTP, in front of a real service."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drawing import NAMES

mcp = pytest.importorskip("mcp", reason="the mcp library is not installed (the extra mcp has it)")
COMMAND = str(Path(sys.executable).with_name("sceneseek"))
Use = Callable[[Any], Awaitable[None]]


@contextlib.asynccontextmanager
async def stdio_client_of(service_url: str) -> AsyncIterator[Any]:
    from mcp.client.stdio import stdio_client  # noqa: PLC0415

    parameters = mcp.StdioServerParameters(command=COMMAND, args=["mcp", "--url", service_url, "--timeout", "60"])
    async with mcp.Client(stdio_client(parameters)) as client:
        yield client


@contextlib.contextmanager
def http_server(service_url: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen([COMMAND, "mcp", "--url", service_url, "--timeout", "60", "--http", address])
    try:
        host, port = address.split(":")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                break
            time.sleep(0.05)
        yield f"http://{address}/mcp"
    finally:
        process.terminate()
        process.wait(30)


async def call_every_tool(client: Any, picture: bytes) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == {"search", "search_by_picture", "details", "thumbnail"}
    assert all(tool.annotations.read_only_hint for tool in tools.values())
    answer = (
        await client.call_tool("search", {"text": "the sea", "k": 3, "minus": ["a house:0.5"]})
    ).structured_content
    assert answer["query"] == "the sea, -a house:0.5"
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    first = answer["results"][0]["id"]
    by_data = await client.call_tool("search_by_picture", {"data": base64.b64encode(picture).decode(), "k": 1})
    (best,) = by_data.structured_content["results"]
    assert best["similarity"] == pytest.approx(1, abs=1e-3)
    others = await client.call_tool("search_by_picture", {"image": first, "k": 50})
    assert len(others.structured_content["results"]) == len(NAMES) - 1
    assert (await client.call_tool("details", {"image": first})).structured_content["id"] == first
    (image,) = (await client.call_tool("thumbnail", {"image": first})).content
    assert (image.type, image.mime_type) == ("image", "image/jpeg")
    assert base64.b64decode(image.data).startswith(b"\xff\xd8")
    for arguments, message in (
        ({"text": " "}, "the query is empty"),
        ({"text": "x", "filter": ["?"]}, "has no comparison"),
    ):
        refused = await client.call_tool("search", arguments)
        assert refused.is_error
        assert message in refused.content[0].text
    neither = await client.call_tool("search_by_picture", {})
    assert "exactly one of image and data" in neither.content[0].text


def test_mcp_tools_work_over_stdio(service_url: str, gallery: Path) -> None:
    async def use() -> None:
        async with stdio_client_of(service_url) as client:
            await call_every_tool(client, (gallery / "scenes/sea.jpg").read_bytes())

    asyncio.run(use())


def test_mcp_tools_work_over_http(service_url: str, gallery: Path) -> None:
    async def use(url: str) -> None:
        async with mcp.Client(url) as client:
            await call_every_tool(client, (gallery / "scenes/sea.jpg").read_bytes())

    with http_server(service_url) as url:
        asyncio.run(use(url))
