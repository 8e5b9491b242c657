"""A bundle's models, and the registry that finds the bundle for a generation.

A service is started with one bundle. When a generation goes live that another image graph filled, the registry looks
for the bundle that filled it: in the service's own directory (which may have been written again), in the directory
that the generation names, and in the directories beside its own. So bundle and generation change together, and a
restart finds them again. If the service's own bundle is written again with the same image graph (another head, another
text graph), it replaces the one in use.
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


# What is encoded alone and together to compare, all of one length in tokens.
_SAMPLES = ["warm-up", "a dog", "red house", "two people"]


@dataclass(frozen=True, eq=False)
class Models:
    """A bundle's encoders and reranker, ready to run.

    Attributes:
        bundle: what they were loaded from.
        encoder: of texts.
        reranker: of pairs of an image and a text.
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
        """The encoder of images, opened when it is first asked for: most services never are.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        with self._opening:
            opened: ImageEncoder | None = self.__dict__.get("images")  # by another thread meanwhile
            return opened or ImageEncoder(self.bundle, self.device, self.threads)

    @cached_property
    def texts_mix(self) -> bool:
        """Whether a text's vectors depend on what runs with it, so that each must run alone.

        Found out by some runs of the text graph when a batcher first asks: the command line never does.
        """
        alone = [self.encoder.encode([text]) for text in _SAMPLES]
        mix = not alike(alone, self.encoder.encode(_SAMPLES))
        if mix:
            log.info("%s: a text's vectors depend on what runs with it, so each runs alone", self.bundle.text_graph)
        return mix

    @classmethod
    def load(cls, bundle: Bundle, device: Device, threads: int, brief: bool = False) -> Models:
        """Open a bundle's graphs.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        return cls(bundle, TextEncoder(bundle, device, threads, brief), Reranker(bundle), device, threads)


class ModelRegistry:
    """Finds and loads the bundle that fits a generation.

    A thread opens the graphs of the service's own bundle meanwhile: mostly it is the one that fits, and opening them
    takes longer than all else at a start, and no interpreter's lock.

    Args:
        bundle: the service's own.
        device, threads, brief: see `open_session`.

    Attributes:
        bundle: the service's own, as it was when it was given.
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
        """Wait until the graphs of the service's own bundle are open.

        Raises:
            BundleError, RuntimeUnavailable: see `open_session`.
        """
        if self._opening is not None:
            self._opening.result()

    def fitting(self, info: CollectionInfo, store_url: str) -> Models:
        """See `ModelSource.fitting`.

        Raises:
            IndexUnavailable: no bundle at hand filled the generation.
            BundleError, RuntimeUnavailable: the one that did cannot be used.
        """
        opening, self._opening = self._opening, None
        if opening is not None and self.bundle.manifest.fingerprints.image == info.image_fingerprint:
            return opening.result()
        bundle = find_bundle(info, self.bundle.path)
        if bundle is None:
            raise filled_by_another(info, store_url, _image_fingerprint(self.bundle.path) or "unreadable")
        if bundle.path != self.bundle.path:
            # A warning, for the bundle that was given is not used.
            log.warning(
                "the bundle %s is not used: generation %s was filled by %s, which answers for it",
                *(self.bundle.path, info.name, bundle.path),
            )
        return Models.load(bundle, *self._opened_with)

    def newer(self, info: CollectionInfo, present: Models) -> Models | None:
        """See `ModelSource.newer`: the service's own bundle, if it was written anew and still fits."""
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
                f"the bundle {self.bundle.path} was written anew with another image graph than filled the index",
                "index the folder again with it; the bundle loaded before stays in use until then",
            )
        return Models.load(Bundle.load(self.bundle.path), *self._opened_with)

    def _stamp(self) -> tuple[int, int] | None:
        """What changes when the service's own bundle is written anew; None while it is not there."""
        try:
            found = (self.bundle.path / MANIFEST).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def find_bundle(info: CollectionInfo, own: Path) -> Bundle | None:
    """The bundle that filled a generation: `own`, the one that the generation names, or one that lies beside `own`.

    Raises:
        BundleError: it is there, and cannot be used.
    """
    for path in _places(info, own):
        if _image_fingerprint(path) == info.image_fingerprint:
            return Bundle.load(path)
    return None


def _places(info: CollectionInfo, own: Path) -> Iterator[Path]:
    yield own
    if info.bundle:
        yield Path(info.bundle)
    yield from sorted(path.parent for path in own.parent.glob(f"*/{MANIFEST}"))


def _image_fingerprint(path: Path) -> str | None:
    try:
        return Manifest.read(path / MANIFEST).fingerprints.image
    except BundleError:
        return None
