"""What a picture looks like, in 32 characters: equal for copies of it, unlike for other pictures.

A fingerprint is the difference hash of the package `dhash`: 128 bits, one for each of 8 x 8 places whether the
picture grows brighter to the right, and one whether it does downwards. Another size, format or quality hardly
changes it; a mirrored picture has another one. It is written as 32 hex digits.

A picture of one colour has no such differences, and all blank pictures would have the same hash. Its
fingerprint is that colour instead, `#rrggbb`: a white page is a copy of another white page, and of no black one.
"""

from __future__ import annotations

import dhash
from PIL import Image

from sceneseek.picture import Picture, on_background

# Of 255 grey levels: a picture whose places differ by no more is of one colour.
_FLAT = 4
# Of 255 levels a channel: blank pictures whose colours differ by no more are alike.
_SAME_COLOUR = 2
_SIZE = 8
BITS = 2 * _SIZE * _SIZE
_SIDE = _SIZE + 1


def fingerprint(picture: Picture) -> str:
    """The fingerprint of a decoded picture; what is transparent counts as white."""
    image = picture.pixels
    if image.mode == "RGBA":
        image = on_background(image, (255, 255, 255))
    # Shrunk here and not by the package, whose filter takes eight times as long, with calls that Pillow will drop.
    small = image.resize((_SIDE, _SIDE), Image.Resampling.HAMMING, reducing_gap=3.0)
    grey = list(small.convert("L").tobytes())
    if max(grey) - min(grey) <= _FLAT:
        return "#" + bytes(small.resize((1, 1), Image.Resampling.BOX).tobytes()).hex()
    return str(dhash.format_hex(*dhash.dhash_row_col(grey, _SIZE), _SIZE))


def same_colour(one: str, other: str) -> bool:
    """Whether two fingerprints of pictures of one colour are of the same, as far as a copy keeps it."""
    channels = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return all(abs(a - b) <= _SAME_COLOUR for a, b in channels)
