"""Images by their names: relative paths that stay inside their folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sceneseek.errors import DataError
from sceneseek.rating import is_relative


@dataclass(frozen=True)
class ImageFolder:
    """Where images lie, and how their files are found by name.

    Attributes:
        root: the folder.
        places: the folders inside it where a name is looked for, in this order; "" is the folder itself.
    """

    root: Path
    places: tuple[str, ...] = ("",)

    def find(self, name: str) -> str | None:
        """The path of a file relative to `root`, or None where there is none inside the folder."""
        if not is_relative(name):
            return None
        for place in self.places:
            inside = f"{place}/{name}" if place else name
            try:
                if (self.root / inside).is_file():
                    return inside
            except OSError:  # longer than any file's name, say: no such file
                continue
        return None


def as_folder(folder: Path | ImageFolder) -> ImageFolder:
    """The folder as an `ImageFolder`, if there is one.

    Raises:
        DataError: there is no such folder.
    """
    images = folder if isinstance(folder, ImageFolder) else ImageFolder(folder)
    if not images.root.is_dir():
        raise DataError(f"no folder of images at {images.root}", "name the folder with --images")
    return images


def image_name(name: str, line: int, path: Path) -> str:
    """The name that stands in a line of a file, if it stays inside its folder.

    Raises:
        DataError: it does not, or is not in its shortest form.
    """
    if not is_relative(name):
        raise DataError(
            f"line {line} of {path} names the image {name[:80]!r}",
            "image names are paths relative to the folder, such as animals/dog.jpg",
        )
    return name
