"""The time, camera and location of a photograph, from its EXIF block or from Google Takeout's JSON.

They become the metadata fields `taken` (a time, in UTC if the camera recorded its offset), `camera` and `location`. An
invalid or meaningless value, such as a date of zeros or latitude and longitude 0, is ignored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from sceneseek.picture import PILLOW_ERRORS
from sceneseek.store.base import FieldType
from sceneseek_indexer.fields import on_earth, parse_date

FIELDS: dict[str, FieldType] = {"taken": "datetime", "camera": "keyword", "location": "geo"}
_LONGEST = 100


def read_exif(exif: Image.Exif, wanted: Container[str] = FIELDS) -> dict[str, Any]:
    """Return the `wanted` fields of an EXIF block."""
    found: dict[str, Any] = {}
    for name, read in (("taken", _taken), ("camera", _camera), ("location", _location)):
        with contextlib.suppress(*PILLOW_ERRORS):
            if name in wanted and (value := read(exif)):
                found[name] = value
    return found


def _taken(exif: Image.Exif) -> str | None:
    details = exif.get_ifd(IFD.Exif)
    for times, tag, offset in (
        (details, Base.DateTimeOriginal, Base.OffsetTimeOriginal),
        (details, Base.DateTimeDigitized, Base.OffsetTimeDigitized),
        (exif, Base.DateTime, Base.OffsetTime),
    ):
        time = _text(times.get(tag))
        if found := parse_date(time + _text(details.get(offset))) or parse_date(time):
            return found
    return None


def _camera(exif: Image.Exif) -> str:
    make, model = _text(exif.get(Base.Make)), _text(exif.get(Base.Model))
    # `Canon` and `Canon EOS 5D`, `NIKON CORPORATION` and `NIKON D750`: the model contains the make.
    named = make and model.lower().startswith(make.split()[0].lower())
    return model if named else f"{make} {model}".strip()


def _location(exif: Image.Exif) -> dict[str, float] | None:
    gps = exif.get_ifd(IFD.GPSInfo)
    if _text(gps.get(GPS.GPSStatus)) == "V":  # void: no GPS fix
        return None
    axes = ((GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS"), (GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW"))
    signs = [{directions[0]: 1, directions[1]: -1}[_text(gps[at]).upper()] for _, at, directions in axes]
    return _place(*(sign * _degrees(gps[value]) for sign, (value, _, _) in zip(signs, axes, strict=True)))


def _degrees(parts: Any) -> float:
    degrees, minutes, seconds = map(float, parts)
    return degrees + minutes / 60 + seconds / 3600


def _place(lat: float, lon: float) -> dict[str, float] | None:
    place = {"lat": round(lat, 7), "lon": round(lon, 7)}
    return place if on_earth(place) and any(place.values()) else None


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in text.partition("\0")[0]).split())[:_LONGEST]


def is_takeout(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is Google Takeout's metadata of a photograph."""
    return isinstance(document.get("photoTakenTime"), dict)


def read_takeout(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata in Google Takeout's object: title, description, people, favorited, `taken`, `location`."""
    found: dict[str, Any] = {
        name: text.strip() for name in ("title", "description") if isinstance(text := document.get(name), str)
    }
    found["taken"] = _timestamp(document["photoTakenTime"].get("timestamp"))
    found["location"] = next(_takeout_places(document), None)
    people = document.get("people")
    names = [person.get("name") for person in people if isinstance(person, dict)] if isinstance(people, list) else []
    found["people"] = [name for name in names if isinstance(name, str) and name]
    found["favorited"] = document.get("favorited") is True
    return {name: value for name, value in found.items() if value}


def _timestamp(seconds: Any) -> str | None:
    try:
        if not int(seconds):
            return None
        return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _takeout_places(document: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    for name in ("geoData", "geoDataExif"):
        place = document.get(name)
        if isinstance(place, dict):
            lat, lon = place.get("latitude"), place.get("longitude")
            if isinstance(lat, int | float) and isinstance(lon, int | float) and (found := _place(lat, lon)):
                yield found
