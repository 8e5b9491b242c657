"""Filters: conditions on the payload that restrict which images a search may return.

A filter is a tree of frozen dataclasses (`conditions`). It is parsed from JSON (`document`, for HTTP) or from short
words (`words`, for the command line and addresses), and each engine translates it into its own objects.

A field is named as in the payload (`path`, `format`, `width`, `height`, `bytes`, `indexed_at`, ...); any
other name is a field of the user's metadata: `year` is `metadata.year`. Dots lead into objects; a name that
contains dots or operators is quoted: `"f.number"`. If a value is a list, one of its members must satisfy the
condition. If it is missing or of another type, the condition is false (and its `not` is true).

Folders match as a whole, by the payload's `folders`, which lists every folder above an image, so that a keyword
index serves them: `animals` finds `animals/dogs/rex.jpg` and not `animals-old/rex.jpg`. There is no condition on
arbitrary string prefixes, because older servers could only scan for them.

Dates are ISO 8601, UTC unless they have an offset. A date without a time of day (`2024`, `2024-05`, `2024-05-31`)
is its whole span: `<= 2024-05` includes 31 May.
"""
