"""The models of a bundle, and the registry that finds the bundle for a generation.

A service is started with one bundle. When a generation filled by another image graph goes live, the registry looks for
the bundle that filled it: in the configured directory (which may have been rewritten), in the directory recorded in the
generation, and in the siblings of the configured one. So bundle and generation change together, also across restarts.
If the configured bundle is rewritten with the same image graph (but another head or text graph), it replaces the one in
use.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sceneseek.alias_follower import filled_by_another
from sceneseek.bundle import MANIFEST, Bundle, Manifest
from sceneseek.encoders import ImageEncoder, TextEncoder, alike
from sceneseek.errors import BundleError, SceneseekError
from sceneseek.reranker import Reranker
from sceneseek.runtime import Device
from sceneseek.store import CollectionInfo

log = logging.getLogger(__name__)


# Encoded one by one and as a batch, for comparison; all have the same number of tokens.
_SAMPLES = ["warm-up", "a dog", "red house", "two people"]


@dataclass(frozen=True, eq=False)
class Models:
    """A bundle's encoders and reranker, ready to run.

    Attributes:
        bundle: the bundle they were loaded from.
        encoder: encodes texts.
        reranker: scores candidates for a text.
        device, threads: see `open_session`.
    """

    bundle: Bundle
    encoder: TextEncoder
    reranker: Reranker
    device: Device = "auto"
    threads: int = 0
    _opening: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def images(self) -> ImageEncoder:
        """The image encoder, loaded on first use: most services never need it.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        with self._opening:
            opened: ImageEncoder | None = self.__dict__.get("images")  # set by another thread meanwhile
            return opened or ImageEncoder(self.bundle, self.device, self.threads)

    @cached_property
    def texts_mix(self) -> bool:
        """Whether a text's vectors depend on the rest of its batch, so that each text must run alone.

        Determined by running the text graph on first use; the command line never needs it.
        """
        alone = [self.encoder.encode([text]) for text in _SAMPLES]
        mix = not alike(alone, self.encoder.encode(_SAMPLES))
        if mix:
            log.info("%s: vectors depend on the rest of a batch, so each text runs alone", self.bundle.text_graph)
        return mix

    @classmethod
    def load(cls, bundle: Bundle, device: Device, threads: int, brief: bool = False) -> Models:
        """Load the models of a bundle.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        return cls(bundle, TextEncoder(bundle, device, threads, brief), Reranker(bundle), device, threads)


class ModelRegistry:
    """Finds and loads the bundle that fits a generation.

    A thread starts loading the configured bundle immediately: it is usually the one that fits, and loading it dominates
    the start-up time and does not hold the GIL.

    Args:
        bundle: the configured bundle.
        device, threads, brief: see `open_session`.

    Attributes:
        bundle: the configured bundle, as read initially.
    """

    def __init__(self, bundle: Bundle, device: Device = "auto", threads: int = 0, brief: bool = False) -> None:
        self.bundle = bundle
        self._opened_with = device, threads, brief
        pool = ThreadPoolExecutor(1, "open-models")
        self._opening: Future[Models] | None = pool.submit(Models.load, bundle, *self._opened_with)
        pool.shutdown(wait=False)
        self._seen = self._stamp()
        self._unfit: SceneseekError | None = None

    def load(self) -> None:
        """Wait until the configured bundle is loaded.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        if self._opening is not None:
            self._opening.result()

    def fitting(self, info: CollectionInfo, store_url: str) -> Models:
        """See `ModelSource.fitting`.

        Raises:
            IndexUnavailable: the bundle that filled the generation was not found.
            BundleError, RuntimeUnavailable: the bundle cannot be used.
        """
        opening, self._opening = self._opening, None
        if opening is not None and self.bundle.manifest.fingerprints.image == info.image_fingerprint:
            return opening.result()
        bundle = find_bundle(info, self.bundle.path)
        if bundle is None:
            raise filled_by_another(info, store_url, _image_fingerprint(self.bundle.path) or "unreadable")
        if bundle.path != self.bundle.path:
            log.warning(
                "the bundle %s is not used: generation %s was filled by %s, which is used instead",
                *(self.bundle.path, info.name, bundle.path),
            )
        return Models.load(bundle, *self._opened_with)

    def newer(self, info: CollectionInfo, present: Models) -> Models | None:
        """See `ModelSource.newer`: the configured bundle, if it was rewritten and still fits."""
        stamp = self._stamp()
        if stamp is None:
            return None
        if stamp == self._seen:
            if self._unfit is not None:
                raise self._unfit.with_traceback(None)
            return None
        self._seen, self._unfit = stamp, None
        try:
            return self._replacement(info, present)
        except SceneseekError as error:
            self._unfit = error
            raise

    def _replacement(self, info: CollectionInfo, present: Models) -> Models | None:
        manifest = Manifest.read(self.bundle.path / MANIFEST)
        if manifest.fingerprints.bundle == present.bundle.manifest.fingerprints.bundle:
            return None
        if manifest.fingerprints.image != info.image_fingerprint:
            raise BundleError(
                f"the bundle {self.bundle.path} was rewritten, and another image graph filled the index",
                "index the folder again with it; until then the bundle loaded before stays in use",
            )
        return Models.load(Bundle.load(self.bundle.path), *self._opened_with)

    def _stamp(self) -> tuple[int, int] | None:
        """A value that changes when the configured bundle is rewritten; None while its manifest does not exist."""
        try:
            stat = (self.bundle.path / MANIFEST).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns


def find_bundle(info: CollectionInfo, own: Path) -> Bundle | None:
    """The bundle that filled a generation: `own`, the one recorded in the generation, or a sibling of `own`.

    Returns None if it is not found.

    Raises:
        BundleError: the bundle exists, but cannot be used.
    """
    for path in _candidate_paths(info, own):
        if _image_fingerprint(path) == info.image_fingerprint:
            return Bundle.load(path)
    return None


def _candidate_paths(info: CollectionInfo, own: Path) -> Iterator[Path]:
    yield own
    if info.bundle:
        yield Path(info.bundle)
    yield from sorted(path.parent for path in own.parent.glob(f"*/{MANIFEST}"))


def _image_fingerprint(path: Path) -> str | None:
    try:
        return Manifest.read(path / MANIFEST).fingerprints.image
    except BundleError:
        return None
