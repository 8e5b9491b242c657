"""`sceneseek mcp`: an MCP (Model Context Protocol) server that lets assistants use a running service.

The tools are read-only and call the service through the client. Specification:
https://modelcontextprotocol.io/specification.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import click
from pydantic import Field

from sceneseek import __version__
from sceneseek.api import Answer, adapter
from sceneseek.client import Client
from sceneseek.errors import InvalidRequest, SceneseekError
from sceneseek.options import key_file_option, read_key, timeout_option
from sceneseek.request import DEFAULT_K
from sceneseek.terms import split_weight

if TYPE_CHECKING:
    from mcp.server import MCPServer

Outcome = TypeVar("Outcome")

_MAX_RESULTS = 50
# The fields that are useful to assistants; others would only cost tokens.
_ANSWER = {"query", "match", "matches", "threshold", "calibrated", "hints", "results"}
_RESULT = {
    "id",
    "rank",
    "score",
    "match",
    "similarity",
    "path",
    "width",
    "height",
    "metadata",
    "text",
    "duplicates",
    "image",
}
_INSTRUCTIONS = (
    "Finds images in a collection by what they show. Describe a scene in a few words. Each result has a score from 0 "
    "to 1; if `calibrated` is false, only the order of scores is meaningful. `match` is false for a result that is "
    "merely the nearest. Look at a result with `thumbnail` before you describe it."
)

_Count = Annotated[int, Field(ge=1, le=_MAX_RESULTS, description="Number of results.")]
_Words = Annotated[list[str], Field(description="Texts or image ids; append `:0.5` for half the weight.")]
_Filter = Annotated[
    list[str],
    Field(description="Conditions on the metadata that must all hold: year>=1990, tags=dog|cat, taken=May 2019."),
]
_Sort = Annotated[
    str | None, Field(description="Sort matching results by a field, such as taken, or -taken for the newest first.")
]


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="URL of the service.")
@key_file_option
@timeout_option
@click.option("--http", metavar="HOST:PORT", help="Serve HTTP at this address, under /mcp, instead of stdio.")
def mcp(url: str, key_file: Path | None, timeout: float, http: str | None) -> None:
    """Let assistants search a service through the Model Context Protocol; read-only."""
    with Client(url, read_key(key_file), timeout=timeout) as client:
        server = mcp_server(client)
        if http is None:
            server.run("stdio")
            return
        host, _, port = http.rpartition(":")
        if not host or not port.isdecimal():
            raise click.BadParameter(f"{http!r} is not HOST:PORT", param_hint="--http")
        server.run("streamable-http", host=host.strip("[]"), port=int(port), stateless_http=True, json_response=True)


def mcp_server(client: Client) -> MCPServer[Any]:
    """Create an MCP server that calls a service through a client."""
    # Deferred import, to keep `sceneseek --help` fast.
    from mcp.server import MCPServer  # noqa: PLC0415
    from mcp.server.mcpserver import Image  # noqa: PLC0415
    from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415
    from mcp.types import ToolAnnotations  # noqa: PLC0415

    server: MCPServer[Any] = MCPServer(
        "sceneseek", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    tool = partial(server.tool, annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))

    @tool()
    async def search(
        text: Annotated[str, Field(description="What the images show, such as: a dog jumping over a log.")],
        k: _Count = DEFAULT_K,
        plus: _Words = [],  # noqa: B006 - the default in the protocol; not modified
        minus: _Words = [],  # noqa: B006
        filter: _Filter = [],  # noqa: A002, B006 - the field's name in the service
        sort: _Sort = None,
    ) -> dict[str, Any]:
        """Find images by a text, best first; images similar to `minus` rank lower."""
        terms = {"plus": [*map(split_weight, plus)], "minus": [*map(split_weight, minus)]}
        return _short(await _in_thread(client.search, text, k=k, filter=filter or None, sort=sort, **terms))

    @tool()
    async def search_by_picture(
        image: Annotated[str | None, Field(description="Id of an image in the collection.")] = None,
        data: Annotated[str | None, Field(description="Or a picture file in base64.")] = None,
        text: Annotated[str | None, Field(description="Text to search by as well, such as: at night.")] = None,
        k: _Count = DEFAULT_K,
    ) -> dict[str, Any]:
        """Find images similar to an image in the collection, or to a picture."""
        if (image is None) == (data is None):
            raise ToolError("exactly one of image and data is required: give the id of an image, or send a picture")
        return _short(await _in_thread(_by_picture, client, text, image, data, k))

    @tool()
    async def details(image: Annotated[str, Field(description="The id of a result.")]) -> dict[str, Any]:
        """Get size, format, metadata and number of near-duplicates of an image."""
        fields = await _in_thread(client.details, image)
        return dict(adapter(type(fields)).dump_python(fields, mode="json"))

    @tool(structured_output=False)
    async def thumbnail(image: Annotated[str, Field(description="The id of a result.")]) -> Any:
        """Get a small JPEG of an image."""
        return Image(data=await _in_thread(client.thumbnail, image), format="jpeg")

    return server


async def _in_thread(function: Callable[..., Outcome], *args: Any, **options: Any) -> Outcome:
    """Run a blocking call in a thread; errors become tool errors for the assistant."""
    from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415

    try:
        return await asyncio.to_thread(function, *args, **options)
    except SceneseekError as error:
        raise ToolError(str(error)) from None


def _short(answer: Answer) -> dict[str, Any]:
    fields = dict.fromkeys(_ANSWER, True) | {"results": {"__all__": _RESULT}}
    short: dict[str, Any] = adapter(Answer).dump_python(answer, mode="json", include=fields)
    return short


def _by_picture(client: Client, text: str | None, image: str | None, data: str | None, k: int) -> Answer:
    return client.search(text, image=image if data is None else _decoded(data), k=k)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"data is not base64 ({error})", "send the bytes of a picture file in base64") from None
