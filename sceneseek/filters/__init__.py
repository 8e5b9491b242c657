"""Conditions on what the index knows of an image: which candidates a search may find at all.

A filter is a tree of frozen dataclasses. It is read from JSON (`filter_from_json`, for HTTP) or from short
words (`filter_from_words`, for the command line), and each engine translates it into its own objects.

A field is named as in the payload (`path`, `format`, `width`, `height`, `bytes`, `indexed_at`, ...); any
other name is a field of the user's metadata: `year` is `metadata.year`. Dots lead into objects; a name that
has dots or operators of its own is quoted: `"f.number"`. Where a value is a list, one of its members must
satisfy the condition; where it is missing or of another kind, the condition does not hold (and `not` of
it does).

Folders are matched whole, by the payload's `folders`, which lists every folder above an image, so that a keyword
index serves them: `animals` finds `animals/dogs/rex.jpg` and not `animals-old/rex.jpg`. Arbitrary string
prefixes are not offered, since older servers could only scan for them.

Dates are ISO 8601, UTC where no offset is given. One with less than a time of day (`2024`, `2024-05`,
`2024-05-31`) is the whole span: `<= 2024-05` includes the last of May.
"""

from sceneseek.filters.condition import (
    All,
    AnyOf,
    AnyPart,
    DateRange,
    Equals,
    FieldPath,
    Filter,
    InFolder,
    Near,
    Not,
    NumberRange,
    Within,
    field_path,
    json_path,
    typed,
)
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words

__all__ = [
    "All",
    "AnyOf",
    "AnyPart",
    "DateRange",
    "Equals",
    "FieldPath",
    "Filter",
    "InFolder",
    "Near",
    "Not",
    "NumberRange",
    "Within",
    "field_path",
    "filter_from_json",
    "filter_from_words",
    "json_path",
    "typed",
]
