"""Text in pictures, read by RapidOCR (the extra `ocr`): PP-OCR's detector and recognizer, run by ONNX Runtime.

The package's own models read Latin letters, Chinese and Japanese; see docs/how-to/text-in-pictures.md for other scripts
and the comparison of models.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sceneseek.colour import on_background
from sceneseek.errors import MissingExtra, SourceError, one_line
from sceneseek.text_tokens import MAX_CHARACTERS, words

if TYPE_CHECKING:
    from rapidocr import RapidOCR

log = logging.getLogger(__name__)

# Pixels of the longer side for text detection; larger pictures are reduced, smaller ones are not enlarged.
SIDE = 960
# Maximum pixels of the longer side for recognition.
_LARGEST = 1_920
# Lines of lower confidence are mostly false: leaves, bricks and faces.
_CONFIDENT = 0.7
_WHITE = (255, 255, 255)


class TextReader:
    """Reads text in pictures; thread-safe, with separate models per thread.

    Args:
        recognizer: a recognition model in RapidOCR's format, an ONNX file that contains its characters; None for the
            package's own.

    Raises:
        MissingExtra: the extra `ocr` is not installed.
        SourceError: the recognizer cannot be used.

    Attributes:
        side: sufficient pixels of a picture's side.
    """

    side = SIDE

    def __init__(self, recognizer: Path | None = None) -> None:
        self._recognizer, self._local = recognizer, threading.local()
        self._new_engine()
        if recognizer is not None:
            self._check(recognizer)

    def _check(self, recognizer: Path) -> None:
        try:
            self._new_engine()(Image.new("RGB", (64, 48)), use_det=False)
        except Exception as error:  # the loader raises errors of ONNX Runtime and its own
            what = f"the OCR model {recognizer} cannot be used ({one_line(str(error))})"
            raise SourceError(what, "set --ocr-model to an ONNX file in RapidOCR's format") from error

    def read(self, pixels: Image.Image) -> str:
        """Return the lines of text in a picture of mode RGB or RGBA, from top to bottom, separated by newlines."""
        image = on_background(pixels, _WHITE) if pixels.mode == "RGBA" else pixels
        if max(image.size) > _LARGEST:
            image = image.copy()
            image.thumbnail((_LARGEST, _LARGEST))
        try:
            found = self._engine()(image)
        except Exception as error:  # noqa: BLE001 - OpenCV and ONNX Runtime raise many types
            log.warning("the text of a picture could not be read: %s", error)
            return ""
        lines = zip(found.txts or (), found.scores or (), strict=True)  # type: ignore[union-attr]  # all steps are enabled
        kept = [line.strip() for line, score in lines if score >= _CONFIDENT and _is_text(line)]
        return "\n".join(kept)[:MAX_CHARACTERS]

    def _engine(self) -> RapidOCR:
        if not hasattr(self._local, "engine"):
            self._local.engine = self._new_engine()
        engine: RapidOCR = self._local.engine
        return engine

    def _new_engine(self) -> RapidOCR:
        try:
            from rapidocr import RapidOCR  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise MissingExtra("index --ocr", "ocr", str(error.name), "disable it with --no-ocr") from None
        parameters: dict[str, Any] = {
            "Global.log_level": "error",
            # Upside-down lines are rare, and upright lines are mistaken for them.
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": SIDE,
            # One thread per run, since there is a loader thread per core.
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        if self._recognizer is not None:
            parameters["Rec.model_path"] = str(self._recognizer)
        return RapidOCR(params=parameters)


def _is_text(line: str) -> bool:
    """Whether a line is more than a single letter or digit, as which a moon or a fence is often recognized."""
    return len("".join(words(line))) > 1
