"""`/v1/embeddings`: vectors of texts and pictures in the joint space, compatible with OpenAI's API."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.api import Embedding, Embeddings, EmbeddingUsage, read_fields, read_json
from sceneseek.bundle import Manifest
from sceneseek.errors import Unprocessable
from sceneseek.queries import EmbeddingForm, EmbeddingRequest
from sceneseek.search import Search
from sceneseek.vectors import in_base64
from sceneseek_server.access.control import FORM, charge
from sceneseek_server.api.openapi import operation
from sceneseek_server.api.search import single_values
from sceneseek_server.api.uploads import Uploads
from sceneseek_server.responses import EMBEDDINGS, deadline, json_response


def embeddings_blueprint(search: Search, uploads: Uploads) -> Blueprint:
    """The view of one pipeline."""
    blueprint = Blueprint("embeddings", __name__, url_prefix=EMBEDDINGS)

    @blueprint.post("")
    @operation(
        summary="Embed texts or pictures",
        tag="search",
        body=(EmbeddingRequest,),
        upload=EmbeddingForm,
        answer=Embeddings,
        problems={422: "There is no such model, or an uploaded picture cannot be used."},
    )
    def embed() -> Response:
        """Vectors of length 1; the cosine of a text's and a picture's vector roughly measures how well they match.

        Request and response have the format of OpenAI's `POST /v1/embeddings`, so its clients can be used; the model is
        the name of the service's pack. Pictures are sent as parts of a form.
        """
        manifest = search.bundle.manifest
        if request.mimetype == FORM:
            options: EmbeddingForm = read_fields(EmbeddingForm, single_values(request.form))
            _check(options, manifest)
            vectors, tokens = search.embed_pictures(uploads.pictures(), deadline()), 0
        elif request.is_json:
            options = texts = read_json(EmbeddingRequest, request.get_data(cache=False))
            _check(options, manifest)
            charge(len(texts.texts))
            vectors, tokens = search.embed_texts(texts.texts, deadline())
        else:
            raise UnsupportedMediaType
        as_base64 = options.encoding_format == "base64"
        data = tuple(
            Embedding(index=index, embedding=in_base64(vector) if as_base64 else vector.tolist())
            for index, vector in enumerate(vectors)
        )
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return json_response(Embeddings(data=data, model=manifest.pack, usage=usage))

    return blueprint


def _check(options: EmbeddingForm, manifest: Manifest) -> None:
    if options.model not in {None, manifest.pack}:
        raise Unprocessable(f"there is no model {options.model!r}", f"the model is {manifest.pack}")
    width = manifest.dimensions.joint
    if options.dimensions not in {None, width}:
        raise Unprocessable(f"dimensions is {options.dimensions}", f"vectors have {width}: omit it")
