"""The next command to type, for hints of errors and for `sceneseek` without a command.

It looks at the file system alone: an index on a server is not asked for.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from sceneseek.errors import SceneseekError

DEFAULT_BUNDLE = Path("bundles/compact")
DEFAULT_INDEX = "file:index"
# The packs that `sceneseek export` ships; a test compares them with its files.
PACKS = ("clip", "compact", "hybrid", "resnet50-bert")
# With the Docker stack, in its directory.
STACK_INDEX_COMMAND = "make reindex IMAGES=DIR"
# Where to look for an index that was not named: the default, and that of `make demo`.
_USUAL_INDEXES = (DEFAULT_INDEX, "file:.cache/demo-index")
_EXAMPLE = "two dogs in the snow"


def export_command(bundle: Path) -> str:
    """The command that writes this bundle; of the pack that the directory is named for, if it is named for one."""
    pack = bundle.name if bundle.name in PACKS else DEFAULT_BUNDLE.name
    words = ["sceneseek", "export"]
    if pack != DEFAULT_BUNDLE.name:
        words += ["--pack", pack]
    if bundle != DEFAULT_BUNDLE.with_name(pack):
        words += ["--out", str(bundle)]
    return shlex.join(words)


def index_command(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """The command that indexes a folder DIR there, with this bundle."""
    return shlex.join(["sceneseek", "index", "DIR", *_options(index_url, bundle)])


def public_index_command(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """The same with BUNDLE and INDEX in place of what is not the default, for clients that may not see paths."""
    shown_index = DEFAULT_INDEX if index_url == DEFAULT_INDEX else "INDEX"
    return index_command(shown_index, DEFAULT_BUNDLE if bundle == DEFAULT_BUNDLE else Path("BUNDLE"))


def missing_bundle_hint(bundle: Path) -> str:
    """What to do where there is no bundle; names another where there is one beside."""
    others = sorted(path.parent for path in bundle.parent.glob("*/manifest.json"))
    other = f", or add `--bundle {shlex.quote(str(others[0]))}` for the one that is there" if others else ""
    return f"run `{export_command(bundle)}`{other}"


def missing_index_hint(index_url: str, bundle: Path = DEFAULT_BUNDLE) -> str:
    """What to do where nothing is indexed; names another index where there is one in its usual place."""
    other = _other_index(index_url)
    there = "" if other is None else f", or add `--index {other}` for the one that is there"
    return f"run `{index_command(index_url, bundle)}` (DIR: a folder of pictures){there}"


def next_steps(bundle: Path, index_url: str) -> list[str]:
    """What a newcomer does next, a line each, by what is there already."""
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
        f"Search on a page: `{shlex.join(['sceneseek', 'serve', *options])}`",
    ]


def _other_index(index_url: str) -> str | None:
    """An index in a usual place, for those who named or meant another directory; None if there is none."""
    usual = _USUAL_INDEXES if _is_local(index_url) else ()
    return next((url for url in usual if url != index_url and _has_images(url)), None)


def _options(index_url: str, bundle: Path) -> list[str]:
    """The options that name an index and a bundle, where these are not the default ones."""
    named = ["--bundle", str(bundle)] if bundle != DEFAULT_BUNDLE else []
    return named if index_url == DEFAULT_INDEX else [*named, "--index", index_url]


def _is_local(index_url: str) -> bool:
    return index_url.startswith("file:")


def _has_images(index_url: str) -> bool:
    """Whether something is indexed in a directory."""
    from sceneseek.store import open_store  # noqa: PLC0415 - the engine is loaded only where it is needed

    try:
        return open_store(index_url).live() is not None
    except (OSError, SceneseekError):
        return False
