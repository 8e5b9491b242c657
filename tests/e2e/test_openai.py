"""`/v1/embeddings` with the official OpenAI client."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.running import running

# Typed as Any, because mypy takes longer to analyse its types than all of ours.
openai: Any = pytest.importorskip("openai", reason="OpenAI's client is not installed (the extra dev has it)")
TEXTS = ["a red circle", "the sea"]


@pytest.fixture(scope="module")
def access(
    bundle: Bundle, index_url: str, sceneseek: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The client arguments for a service that requires an API key."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys.json"
    key = sceneseek("keys", "add", "tests", "--api-keys", keys).stdout.split()[-1]
    index = shutil.copytree(index_url.removeprefix("file:"), folder / "index")
    with running("--bundle", bundle.path, "--index", f"file:{index}", "--api-keys", keys) as service:
        yield {"base_url": f"{service.url.rstrip('/')}/v1", "api_key": key}


@pytest.fixture
def client(access: dict[str, str]) -> Iterator[Any]:
    with openai.OpenAI(**access) as client:
        yield client


def test_embeddings_are_equal_in_base64_and_float_encoding(client: Any, bundle: Bundle) -> None:
    # By default the client requests base64 and decodes it.
    both = client.embeddings.create(model="compact", input=TEXTS)
    assert (both.model, [each.index for each in both.data]) == ("compact", [0, 1])
    assert {len(each.embedding) for each in both.data} == {bundle.manifest.dimensions.joint}
    assert both.usage.total_tokens == both.usage.prompt_tokens > 4
    for form in ({}, {"encoding_format": "float"}, {"dimensions": bundle.manifest.dimensions.joint}, {"user": "me"}):
        (one,) = client.embeddings.create(model="compact", input=TEXTS[0], **form).data
        assert one.embedding == pytest.approx(both.data[0].embedding, abs=1e-5)


def test_async_client_gets_the_same_embeddings(client: Any, access: dict[str, str]) -> None:
    async def embed() -> list[Any]:
        async with openai.AsyncOpenAI(**access) as other:
            return await asyncio.gather(*(other.embeddings.create(model="compact", input=text) for text in TEXTS))

    both = client.embeddings.create(model="compact", input=TEXTS)
    for expected, actual in zip(both.data, asyncio.run(embed()), strict=True):
        assert actual.data[0].embedding == pytest.approx(expected.embedding, abs=1e-5)


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        ({"input": []}, "BadRequestError", "400 - input has 0 entries: send a text, or a list of 1 to 1,024 texts"),
        ({"input": [[1, 2, 3]]}, "BadRequestError", "400 - input[0] is a list, which is not a text: send a text"),
        ({"input": ["a dog", " "]}, "BadRequestError", "400 - input[1]: the query is empty: describe a scene"),
        ({"dimensions": 256}, "UnprocessableEntityError", "422 - dimensions is 256: vectors have 710"),
        ({"model": "gpt"}, "UnprocessableEntityError", "422 - there is no model 'gpt': the model is compact"),
    ],
)
def test_invalid_request_raises_with_the_reason(client: Any, sent: dict[str, Any], error: str, message: str) -> None:
    with pytest.raises(getattr(openai, error)) as raised:
        client.embeddings.create(**{"model": "compact", "input": "a dog", **sent})
    assert str(raised.value).startswith(f"Error code: {message}")
    assert raised.value.request_id


def test_wrong_key_raises_authentication_error(access: dict[str, str]) -> None:
    with (
        openai.OpenAI(base_url=access["base_url"], api_key="another") as client,
        pytest.raises(openai.AuthenticationError, match="401 - an API key is required: send it as Authorization"),
    ):
        client.embeddings.create(model="compact", input="a dog")
