"""Typed metadata from EXIF, Google Takeout JSON and ExifTool CSV; invalid values are dropped."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from sceneseek.picture import decode
from sceneseek_indexer.photo_facts import read_exif, read_takeout
from sceneseek_indexer.sidecar import Sidecar

BERLIN: dict[int, Any] = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (52, 30, 0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (13, 24, 0),
}
ORIGINAL, OFFSET = Base.DateTimeOriginal, Base.OffsetTimeOriginal


def exif_block(base: Mapping[Any, Any], details: Mapping[Any, Any], gps: Mapping[Any, Any]) -> Image.Exif:
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(IFD.Exif).update(details)
    exif.get_ifd(IFD.GPSInfo).update(gps)
    return exif


def picture(exif: bytes, image_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(file, image_format, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_is_read_from_every_supported_format(image_format: str, orientation: int) -> None:
    base = {Base.Make: "Canon", Base.Model: "Canon EOS 5D", Base.Orientation: orientation}
    exif = exif_block(base, {ORIGINAL: "2024:05:31 10:00:00", OFFSET: "+02:00"}, BERLIN)
    decoded = decode(picture(exif.tobytes(), image_format))
    assert read_exif(decoded.exif) == {
        "taken": "2024-05-31T08:00:00Z",
        "camera": "Canon EOS 5D",
        "location": {"lat": 52.5, "lon": 13.4},
    }
    assert read_exif(decoded.exif, {"camera"}) == {"camera": "Canon EOS 5D"}


@pytest.mark.parametrize(
    ("base", "details", "taken"),
    [
        ({}, {ORIGINAL: "2024:05:31 10:00:00"}, "2024-05-31T10:00:00"),
        ({}, {ORIGINAL: "2024:05:31 10:00:00\0"}, "2024-05-31T10:00:00"),
        ({}, {ORIGINAL: "2024-05-31 10:00:00"}, "2024-05-31T10:00:00"),
        ({}, {ORIGINAL: "2024:05:31 10:00:00", OFFSET: "nonsense"}, "2024-05-31T10:00:00"),
        ({}, {ORIGINAL: "0000:00:00 00:00:00"}, None),
        ({}, {ORIGINAL: "    :  :     :  :  "}, None),
        ({}, {ORIGINAL: "2024:13:31 10:00:00"}, None),
        ({}, {ORIGINAL: 5}, None),
        ({Base.DateTime: "2020:01:01 00:00:00"}, {ORIGINAL: "2019:01:01 00:00:00"}, "2019-01-01T00:00:00"),
        ({Base.DateTime: "2020:01:01 00:00:00"}, {ORIGINAL: "0000:00:00 00:00:00"}, "2020-01-01T00:00:00"),
        ({}, {Base.DateTimeDigitized: "2020:01:01 00:00:00"}, "2020-01-01T00:00:00"),
    ],
)
def test_taken_is_first_valid_exif_time(base: dict[int, Any], details: dict[int, Any], taken: str | None) -> None:
    assert read_exif(exif_block(base, details, {})).get("taken") == taken


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("SONY ", " DSC-RX100\0\0junk", "SONY DSC-RX100"),
        ("", "Pixel 8", "Pixel 8"),
        ("Leica", "", "Leica"),
        ("a\nb", "\x01", "a b"),
        ("x" * 300, "", "x" * 100),
        (5, 6, None),
    ],
)
def test_camera_name_is_normalized(make: Any, model: Any, camera: str | None) -> None:
    assert read_exif(exif_block({Base.Make: make, Base.Model: model}, {}, {})).get("camera") == camera


@pytest.mark.parametrize(
    ("gps", "location"),
    [
        ({}, {"lat": 52.5, "lon": 13.4}),
        ({GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}, {"lat": -52.5, "lon": -13.4}),
        ({GPS.GPSLatitudeRef: "n"}, {"lat": 52.5, "lon": 13.4}),
        ({GPS.GPSStatus: "V"}, None),
        ({GPS.GPSLatitudeRef: None}, None),
        ({GPS.GPSLatitudeRef: "?"}, None),
        ({GPS.GPSLatitude: (91, 0, 0)}, None),
        ({GPS.GPSLatitude: (52, 30)}, None),
        ({GPS.GPSLatitude: (float("nan"), 0, 0)}, None),
        ({GPS.GPSLatitude: "52"}, None),
        ({GPS.GPSLatitude: (0, 0, 0), GPS.GPSLongitude: (0, 0, 0)}, None),
    ],
)
def test_invalid_gps_location_is_dropped(gps: dict[int, Any], location: dict[str, float] | None) -> None:
    assert read_exif(exif_block({}, {}, {**BERLIN, **gps})).get("location") == location


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 299), st.integers(0, 255))
def test_damaged_exif_never_raises(junk: bytes, position: int, byte: int) -> None:
    valid = exif_block({Base.Make: "Canon"}, {ORIGINAL: "2024:05:31 10:00:00"}, BERLIN).tobytes()
    damaged = bytearray(valid)
    damaged[position % len(damaged)] = byte
    for exif in (b"Exif\0\0" + junk, b"Exif\0\0II*\0\x08\0\0\0" + junk, bytes(damaged), valid[:position]):
        metadata = read_exif(decode(picture(exif, "JPEG")).exif)
        assert metadata.keys() <= {"taken", "camera", "location"}
        json.dumps(metadata, allow_nan=False).encode()


TAKEOUT = {
    "title": "IMG.jpg",
    "description": " A dog ",
    "imageViews": "4",
    "creationTime": {"timestamp": "1558900000", "formatted": "May 26, 2019, 7:46:40 PM UTC"},
    "photoTakenTime": {"timestamp": "1558888888", "formatted": "May 26, 2019, 4:41:28 PM UTC"},
    "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
    "geoDataExif": {"latitude": 52.5, "longitude": 13.4, "altitude": 0.0},
    "people": [{"name": "Ann"}, {"name": ""}, {}, 5],
    "url": "https://photos.example/1",
    "googlePhotosOrigin": {"mobileUpload": {"deviceType": "IOS_PHONE"}},
    "favorited": True,
}
READ = {
    "title": "IMG.jpg",
    "description": "A dog",
    "taken": "2019-05-26T16:41:28Z",
    "location": {"lat": 52.5, "lon": 13.4},
    "people": ["Ann"],
    "favorited": True,
}


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("IMG.jpg", "IMG.jpg.json"),
        ("IMG.jpg", "IMG.jpg.supplemental-metadata.json"),
        ("IMG(1).jpg", "IMG.jpg(1).json"),
        ("IMG-edited.jpg", "IMG.jpg.json"),
        ("IMG-edited(2).jpg", "IMG.jpg.supplemental-metadata(2).json"),
        ("IMG(1).jpg", "IMG.jpg.supplemental-metadata(1).json"),
        (f"{'x' * 30}.jpg", f"{'x' * 30}.jpg.supplementa.json"),
        (f"{'x' * 50}.jpg", f"{'x' * 46}.json"),
    ],
)
def test_takeout_json_is_read_as_typed_metadata(tmp_path: Path, image: str, file: str) -> None:
    (tmp_path / file).write_text(json.dumps(TAKEOUT))
    sidecar = Sidecar.beside(tmp_path, [image, "other.jpg"])
    assert sidecar.metadata(image) == READ
    assert {"taken": "datetime", "location": "geo", "people": "keyword"}.items() <= sidecar.fields.items()
    assert sidecar.metadata("other.jpg") == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"photoTakenTime": {"timestamp": "x"}},
        {"photoTakenTime": {"timestamp": "9" * 30}},
        {"photoTakenTime": {"timestamp": None}},
        {"photoTakenTime": {}},
    ],
)
def test_invalid_takeout_time_is_dropped(changed: dict[str, Any]) -> None:
    assert read_takeout(TAKEOUT | changed) == {name: value for name, value in READ.items() if name != "taken"}


@pytest.mark.parametrize("value", [None, "x", 5, [], {}, [[]], {"latitude": "a", "longitude": 1}])
@pytest.mark.parametrize("name", ["title", "description", "geoData", "geoDataExif", "people", "favorited"])
def test_unexpected_takeout_value_never_raises(name: str, value: Any) -> None:
    read_takeout(TAKEOUT | {name: value})


def test_exiftool_csv_is_read_as_typed_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "exif.csv").write_text(
        "SourceFile,File:FileName,DateTimeOriginal,FileModifyDate,GPSLatitude,GPSLongitude,ISO,Keywords,int\n"
        'photos/a.jpg,a.jpg,2024:05:31 10:00:00,2024:05:31 10:00:00+02:00,"52 deg 30\' 0.00"" N",'
        '"13 deg 24\' 0.00"" W",100,"dog, red",x\n'
        "./photos/b.jpg,b.jpg,0000:00:00 00:00:00,2024:05:31 10:00:00+02:00,,,200,,y\n"
    )
    sidecar = Sidecar.of(tmp_path / "exif.csv").below(Path("photos"), ["a.jpg", "b.jpg"])
    assert sidecar.metadata("a.jpg") == {
        "File:FileName": "a.jpg",
        "DateTimeOriginal": "2024-05-31T10:00:00",
        "FileModifyDate": "2024-05-31T08:00:00Z",
        "location": {"lat": 52.5, "lon": -13.4},
        "ISO": 100,
        "Keywords": ["dog", "red"],
        "int": "x",
    }
    assert sidecar.metadata("b.jpg")["ISO"] == 200
    assert sidecar.fields["DateTimeOriginal"] == "datetime"
