"""Filters: conditions on the payload that restrict which images a search may return.

A filter is a tree of frozen dataclasses (`conditions`). It is parsed from JSON (`document`, for HTTP) or from the short
form (`words`, for the command line and query strings), and each engine translates it into its own objects.

Payload fields have the names of the payload (`path`, `format`, `width`, `height`, `bytes`, `indexed_at`, ...); any
other name is a field of the user's metadata: `year` is `metadata.year`. Dots separate nested fields; a name that
contains dots or operators is quoted: `"f.number"`. If a value is a list, one of its members must satisfy the
condition. If it is missing or has another type, the condition is false (and its `not` is true).

Folder conditions match whole folder names, in the payload field `folders`, which lists all folders above an image, so
that they can use a keyword index: `animals` matches `animals/dogs/rex.jpg` and not `animals-old/rex.jpg`. There is no
condition on arbitrary string prefixes, because older servers need a full scan for them.

Dates are ISO 8601, in UTC unless they have an offset. A date without a time of day (`2024`, `2024-05`, `2024-05-31`)
means its whole span: `<= 2024-05` includes 31 May.
"""
