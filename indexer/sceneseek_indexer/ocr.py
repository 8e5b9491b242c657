"""Text in pictures, read by RapidOCR (the extra `ocr`): PP-OCR's detector and recognizer, run by ONNX Runtime.

The package's own models read Latin letters, Chinese and Japanese; docs/how-to/text-in-pictures.md says how to read
other scripts, and what was compared.
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

# Text is looked for in pictures whose longer side has at most so many pixels, and never enlarged.
SIDE = 960
# Each line is cut out of a picture of at most so many.
_LARGEST = 1_920
# Lines of less confidence are mostly no text: leaves, bricks and faces.
_CONFIDENT = 0.7
_WHITE = (255, 255, 255)


class TextReader:
    """Reads text in pictures; thread-safe, each thread with models of its own.

    Args:
        recognizer: a recognition model in RapidOCR's form, an ONNX file that holds its characters; None is its own.

    Raises:
        MissingExtra: the extra `ocr` is not installed.
        SourceError: the recognizer cannot be used.

    Attributes:
        side: pixels of a picture's side that suffice.
    """

    side = SIDE

    def __init__(self, recognizer: Path | None = None) -> None:
        self._recognizer, self._local = recognizer, threading.local()
        self._opened()
        if recognizer is not None:
            self._check(recognizer)

    def _check(self, recognizer: Path) -> None:
        try:
            self._opened()(Image.new("RGB", (64, 48)), use_det=False)
        except Exception as error:  # its loader raises what ONNX Runtime and its own checks do
            what = f"the OCR model {recognizer} cannot be used ({one_line(str(error))})"
            raise SourceError(what, "name an ONNX file that RapidOCR reads with --ocr-model") from error

    def read(self, pixels: Image.Image) -> str:
        """The lines of text in a picture, of mode RGB or RGBA, from top to bottom, divided by new lines."""
        image = on_background(pixels, _WHITE) if pixels.mode == "RGBA" else pixels
        if max(image.size) > _LARGEST:
            image = image.copy()
            image.thumbnail((_LARGEST, _LARGEST))
        try:
            found = self._engine()(image)
        except Exception as error:  # noqa: BLE001 - OpenCV's and ONNX Runtime's are of many kinds
            log.warning("the text of a picture could not be read: %s", error)
            return ""
        lines = zip(found.txts or (), found.scores or (), strict=True)  # type: ignore[union-attr]  # all steps were run
        kept = [line.strip() for line, score in lines if score >= _CONFIDENT and _is_text(line)]
        return "\n".join(kept)[:MAX_CHARACTERS]

    def _engine(self) -> RapidOCR:
        if not hasattr(self._local, "engine"):
            self._local.engine = self._opened()
        engine: RapidOCR = self._local.engine
        return engine

    def _opened(self) -> RapidOCR:
        try:
            from rapidocr import RapidOCR  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise MissingExtra("index --ocr", "ocr", str(error.name), "leave texts out with --no-ocr") from None
        parameters: dict[str, Any] = {
            "Global.log_level": "error",
            # Lines that stand on their heads are rare, and upright ones are mistaken for them.
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": SIDE,
            # One thread for each run, as the pool of loaders is as wide as the machine.
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        if self._recognizer is not None:
            parameters["Rec.model_path"] = str(self._recognizer)
        return RapidOCR(params=parameters)


def _is_text(line: str) -> bool:
    """Whether a line is more than one letter or digit, as which a moon or a fence is often read."""
    return len("".join(words(line))) > 1
