"""What a query is searched by, to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sceneseek.encoders import truncated
from sceneseek.models import Models
from sceneseek.preprocess import Pixels
from sceneseek.vectors import Floats


@dataclass(frozen=True, slots=True)
class Encoded:
    """One query text or image: `joint` (D,) of length 1, `head` (H,)."""

    joint: Floats
    head: Floats
    truncated: bool = False
    cached: bool = False


class QueryEncoder:
    """Encodes in the thread that asks."""

    @classmethod
    def direct(cls) -> QueryEncoder:
        return cls()

    def text(self, models: Models, text: str, deadline: float | None = None) -> Encoded:
        return self.texts(models, [text], deadline)[0]

    def texts(self, models: Models, texts: Sequence[str], deadline: float | None = None) -> list[Encoded]:
        del deadline
        if not texts:
            return []
        tokens = models.encoder.tokenize(list(texts))
        vectors = models.encoder.encode_tokens(tokens)
        return [Encoded(*row) for row in zip(vectors.joint, vectors.head, truncated(tokens), strict=True)]

    def image(self, models: Models, pixels: tuple[Pixels, ...], deadline: float | None = None) -> Encoded:
        del deadline
        from sceneseek.encoders import ImageEncoder  # noqa: PLC0415

        vectors = ImageEncoder(models.bundle, "cpu").encode([pixels])
        return Encoded(vectors.joint[0], vectors.head[0])

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        pass
