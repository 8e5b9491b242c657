"""Suggestions for the next command, in hints of errors and for `sceneseek` without a command.

They depend on local files only: servers are not contacted.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from sceneseek.errors import SceneseekError

DEFAULT_BUNDLE = Path("bundles/compact")
DEFAULT_INDEX = "file:index"
# The packs included in `sceneseek export`; a test compares them with its files.
PACKS = ("clip", "compact", "hybrid", "resnet50-bert")
# Indexing with the Docker stack, to be run in its directory.
STACK_INDEX_COMMAND = "make reindex IMAGES=DIR"
# Indexes to suggest if they exist: the default, and that of `make demo`.
_USUAL_INDEXES = (DEFAULT_INDEX, "file:.cache/demo-index")
_EXAMPLE = "two dogs in the snow"


def export_command(bundle: Path) -> str:
    """The command that writes this bundle, of the pack with the directory's name if there is one."""
    pack = bundle.name if bundle.name in PACKS else DEFAULT_BUNDLE.name
    words = ["sceneseek", "export"]
    if pack != DEFAULT_BUNDLE.name:
        words += ["--pack", pack]
    if bundle != DEFAULT_BUNDLE.with_name(pack):
        words += ["--out", str(bundle)]
    return shlex.join(words)


def index_command(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """The command that indexes a folder DIR with this index and bundle."""
    return shlex.join(["sceneseek", "index", "DIR", *_options(index_url, bundle)])


def public_index_command(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """Like `index_command`, with BUNDLE and INDEX as placeholders for paths that clients may not see."""
    shown_index = DEFAULT_INDEX if index_url == DEFAULT_INDEX else "INDEX"
    return index_command(shown_index, DEFAULT_BUNDLE if bundle == DEFAULT_BUNDLE else Path("BUNDLE"))


def missing_bundle_hint(bundle: Path) -> str:
    """The hint for a missing bundle; suggests a sibling directory that contains one."""
    others = sorted(path.parent for path in bundle.parent.glob("*/manifest.json"))
    other = f", or add `--bundle {shlex.quote(str(others[0]))}` to use the existing one" if others else ""
    return f"run `{export_command(bundle)}`{other}"


def missing_index_hint(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """The hint for a missing index; suggests an existing index in a usual location."""
    other = _other_index(index_url)
    existing = "" if other is None else f", or add `--index {other}` to use the existing one"
    return f"run `{index_command(index_url, bundle)}` (DIR: a folder of pictures){existing}"


def next_steps(bundle: Path, index_url: str) -> list[str]:
    """Suggestions for newcomers, one per line, depending on what already exists."""
    if not (bundle / "manifest.json").is_file():
        return [f"There is no bundle of models in {bundle} yet: {missing_bundle_hint(bundle)}"]
    index = f"`{index_command(index_url, bundle)}` (DIR: a folder of pictures)"
    if not _is_local(index_url):
        return [f"Index a folder: {index}", *_searches(index_url, bundle)]
    if _has_images(index_url):
        return _searches(index_url, bundle)
    other = _other_index(index_url)
    if other is not None:
        return [*_searches(other, bundle), f"Nothing is indexed in {index_url} yet: {index}"]
    return [f"Nothing is indexed yet: {index}"]


def _searches(index_url: str, bundle: Path) -> list[str]:
    options = _options(index_url, bundle)
    return [
        f"Search: `{shlex.join(['sceneseek', 'search', _EXAMPLE, *options])}`",
        f"Search in a browser: `{shlex.join(['sceneseek', 'serve', *options])}`",
    ]


def _other_index(index_url: str) -> str | None:
    """An existing index in another usual location; None if there is none."""
    usual = _USUAL_INDEXES if _is_local(index_url) else ()
    return next((url for url in usual if url != index_url and _has_images(url)), None)


def _options(index_url: str, bundle: Path) -> list[str]:
    """The options for an index and a bundle, omitted if they have their defaults."""
    options = ["--bundle", str(bundle)] if bundle != DEFAULT_BUNDLE else []
    return options if index_url == DEFAULT_INDEX else [*options, "--index", index_url]


def _is_local(index_url: str) -> bool:
    return index_url.startswith("file:")


def _has_images(index_url: str) -> bool:
    """Whether a local index contains anything."""
    from sceneseek.store import open_store  # noqa: PLC0415 - the engine is loaded only if needed

    try:
        return open_store(index_url).live() is not None
    except (OSError, SceneseekError):
        return False
