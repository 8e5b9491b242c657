"""Images drawn in code, so that the repository needs no photographs."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

NAMES = (
    "shapes/red circle.png",
    "shapes/blue square.png",
    "shapes/green triangle.png",
    "shapes/yellow star.png",
    "shapes/transparent ring.png",
    "scenes/sunset.jpg",
    "scenes/night sky.jpg",
    "scenes/meadow.webp",
    "scenes/house.bmp",
    "scenes/stripes.gif",
    "scenes/checkerboard.tiff",
    "scenes/sea.jpg",
)


def draw_gallery(folder: Path) -> Path:
    """Draw `NAMES` into a folder and return it."""
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(path.stem).save(path)
    return folder


def _draw(subject: str) -> Image.Image:  # noqa: C901, PLR0912 - a list of images without logic
    if subject == "transparent ring":
        image = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
        ImageDraw.Draw(image).ellipse((60, 20, 240, 180), outline=(120, 40, 160, 255), width=30)
        return image
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    match subject:
        case "red circle":
            draw.ellipse((80, 40, 240, 200), fill="red")
        case "blue square":
            draw.rectangle((90, 50, 230, 190), fill="blue")
        case "green triangle":
            draw.polygon([(160, 30), (60, 210), (260, 210)], fill="green")
        case "yellow star":
            draw.regular_polygon((160, 120, 90), 5, fill="gold")
            draw.regular_polygon((160, 120, 60), 5, rotation=36, fill="orange")
        case "sunset":
            for y in range(240):
                draw.line((0, y, 320, y), fill=(255, max(0, 190 - y), max(0, 90 - y // 2)))
            draw.ellipse((130, 120, 190, 180), fill=(255, 240, 160))
        case "night sky":
            draw.rectangle((0, 0, 320, 240), fill=(8, 8, 40))
            for i in range(60):
                draw.point(((i * 53) % 320, (i * 97) % 240), fill="white")
        case "meadow":
            draw.rectangle((0, 0, 320, 110), fill="skyblue")
            draw.rectangle((0, 110, 320, 240), fill="forestgreen")
        case "house":
            draw.rectangle((90, 110, 230, 220), fill="peru")
            draw.polygon([(70, 110), (160, 40), (250, 110)], fill="firebrick")
        case "stripes":
            for x in range(0, 320, 40):
                draw.rectangle((x, 0, x + 19, 240), fill="black")
        case "checkerboard":
            for x in range(0, 320, 40):
                for y in range(x % 80, 240, 80):
                    draw.rectangle((x, y, x + 39, y + 39), fill="black")
        case _:
            draw.rectangle((0, 0, 320, 240), fill=(20, 80, 160))
            for y in range(20, 240, 30):
                draw.arc((0, y - 15, 320, y + 15), 0, 180, fill="white", width=3)
    return image


def scenery(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Draw an image with varied light and colour, like a photograph; the same seed gives the same image."""
    levels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for x, y, radius, *colour in np.random.default_rng(seed + 1_000).integers(0, 256, (8, 6)):
        centre, reach = (width * x // 256, height * y // 256), 8 + radius // 6
        draw.ellipse((centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach), tuple(colour))
    return image


# The (x, y) primaries of red, green and blue, and the gamma, where 0 is the sRGB curve; the white point is D65.
_SPACES: dict[str, tuple[tuple[tuple[float, float], ...] | None, float]] = {
    "sRGB": (((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), 0.0),
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), 0.0),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256),
    "grey of gamma 1": (None, 1.0),
}
_D65, _D50 = np.array([0.9505, 1.0, 1.089]), np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def icc_profile(name: str) -> bytes:
    """Return the ICC profile of a colour space: primaries adapted to D50, and a tone curve."""
    primaries, gamma = _SPACES[name]
    if not gamma:
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        curve = b"para\0\0\0\0\0\3\0\0" + b"".join(_fixed(number) for number in numbers)
    else:
        curve = b"para\0\0\0\0\0\0\0\0" + _fixed(gamma)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + b"".join(map(_fixed, _D50))}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
        columns = columns * np.linalg.solve(columns, _D65)
        adapt = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ _D65)) @ _BRADFORD
        for letter, column in zip(b"rgb", (adapt @ columns).T, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + b"".join(map(_fixed, column))
            tags[bytes([letter]) + b"TRC"] = curve
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, at + len(body), len(value))
        body += value.ljust(-(-len(value) // 4) * 4, b"\0")
    space = b"GRAY" if primaries is None else b"RGB "
    names = b"mntr" + space + b"XYZ " + bytes(12) + b"acsp"
    head = struct.pack(">I4sI", at + len(body), bytes(4), 0x04300000) + names
    return head.ljust(68, b"\0") + b"".join(map(_fixed, _D50)) + bytes(48) + table + body


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))
