"""A metadata file is read completely, or rejected with the invalid line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.errors import DataError
from sceneseek.filters.conditions import field_path
from sceneseek.payload import PAYLOAD_FIELDS
from sceneseek_indexer.sidecar import Sidecar

ROWS = [
    {"path": "a.jpg", "title": 'A dog, "Rex"', "year": 1999, "tags": ["dog", "red"], "taken": "1999-05-31", "ok": True},
    {"path": "b/c.jpg", "title": "Zwölf\nZeilen", "year": 2024, "tags": ["cat"], "taken": "2024-01-01", "ok": False},
]
FIELDS = {"title": "keyword", "year": "integer", "tags": "keyword", "taken": "datetime", "ok": "bool"}
CSV = (
    "path,title,year,tags,taken,ok\n"
    'a.jpg,"A dog, ""Rex""",1999,dog; red,1999-05-31,true\n'
    'b/c.jpg,"Zwölf\nZeilen",2024,cat,2024-01-01,false\n'
)


def written(folder: Path, content: str | bytes, name: str = "metadata.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def without_path(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "path"}


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n").replace("Zwölf\r\n", "Zwölf\n"),
        CSV.replace('"A dog, ""Rex"""', "'")
        .replace(",", ";")
        .replace("dog; red", '"dog; red"')
        .replace("'", '"A dog, ""Rex"""'),
        CSV.replace("\n", "\n\n").replace("Zwölf\n\n", "Zwölf\n"),
        CSV.removesuffix("\n"),
    ],
    ids=["plain", "byte order mark", "CRLF", "semicolons", "blank lines", "no trailing newline"],
)
def test_csv_is_read_as_typed_metadata(tmp_path: Path, content: str) -> None:
    sidecar = Sidecar.of(written(tmp_path, content))
    assert [sidecar.metadata(str(row["path"])) for row in ROWS] == [
        {**without_path(ROWS[0])},
        {**without_path(ROWS[1])},
    ]
    assert sidecar.fields == {**FIELDS, "title": "text"}


def test_json_lines_are_read_as_typed_metadata(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS) + "\r\n\n"
    sidecar = Sidecar.of(written(tmp_path, lines, "metadata.jsonl"))
    assert [sidecar.metadata(str(row["path"])) for row in ROWS] == [without_path(row) for row in ROWS]
    assert len(sidecar.unmatched([])) == 2


def test_tsv_has_no_quoting_rules(tmp_path: Path) -> None:
    sidecar = Sidecar.of(written(tmp_path, 'title\timage\na "dog"\ta.jpg\r\n', "metadata.TSV"))
    assert sidecar.metadata("a.jpg") == {"title": 'a "dog"'}


def test_missing_values_and_empty_columns_are_omitted(tmp_path: Path) -> None:
    sidecar = Sidecar.of(written(tmp_path, "path,a,b\nx.jpg,1,\ny.jpg,,\n"))
    assert (sidecar.metadata("x.jpg"), sidecar.metadata("y.jpg")) == ({"a": 1}, {})
    assert sidecar.fields == {"a": "integer"}


def test_column_type_in_header_is_applied(tmp_path: Path) -> None:
    sidecar = Sidecar.of(
        written(tmp_path, 'path,zip:keyword,people:list,score:float,at:geo\na.jpg,10115,Ann|Bo,1,"52.5,13"\n')
    )
    assert sidecar.metadata("a.jpg") == {
        "zip": "10115",
        "people": ["Ann", "Bo"],
        "score": 1.0,
        "at": {"lat": 52.5, "lon": 13.0},
    }
    assert sidecar.fields == {"zip": "keyword", "people": "keyword", "score": "float", "at": "geo"}


def test_latitude_and_longitude_columns_become_location(tmp_path: Path) -> None:
    sidecar = Sidecar.of(written(tmp_path, "path,Latitude,lon\na.jpg,52.5,13\nb.jpg,,\n"))
    assert sidecar.metadata("a.jpg") == {"location": {"lat": 52.5, "lon": 13.0}}
    assert sidecar.metadata("b.jpg") == {}
    assert sidecar.fields == {"location": "geo"}


def test_path_spellings_are_normalised(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    sidecar = Sidecar.of(written(tmp_path, "path,n\n./a.jpg,1\nu\u0308.jpg,2\ncaf\\xe9.jpg,3\n"))
    assert [sidecar.metadata(path)["n"] for path in ("a.jpg", "ü.jpg", odd)] == [1, 2, 3]
    assert sidecar.unmatched(["a.jpg", "ü.jpg"]) == ["caf\\xe9.jpg"]
    assert sidecar.unmatched(["a.jpg", "ü.jpg", odd]) == []


IMAGES = ["a.jpg", "2024/b.jpg", "2024/zürich.jpg"]


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("2024/b.jpg", "2024/b.jpg"),
        ("./2024/b.jpg", "2024/b.jpg"),
        ("{folder}/2024/b.jpg", "2024/b.jpg"),
        ("{folder}/../photos/2024/b.jpg", "2024/b.jpg"),
        ("{link}/2024/b.jpg", "2024/b.jpg"),
        ("photos/2024/b.jpg", "2024/b.jpg"),
        ("./photos/a.jpg", "a.jpg"),
        ("2024\\b.jpg", "2024/b.jpg"),
        ("photos\\2024\\b.jpg", "2024/b.jpg"),
        ("{folder}/2024/zu\u0308rich.jpg", "2024/zürich.jpg"),
    ],
)
def test_absolute_and_working_directory_paths_match_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, image: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    spelling = path.format(folder=tmp_path / "photos", link=tmp_path / "link")
    sidecar = Sidecar.of(written(tmp_path, f"path,n\n{spelling},1\n")).below(Path("link"), IMAGES)
    assert sidecar.metadata(image) == {"n": 1}
    assert sidecar.unmatched(IMAGES) == []


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["/Users/ann/Photos/a.jpg", "/Users/ann/Photos/2024/b.jpg"], "without /Users/ann/Photos/ 2 of them are"),
        (["C:/Photos/2024/b.jpg", "C:/Photos/c.jpg"], "without C:/Photos/ 1 of them are"),
        (["C:\\Photos\\2024\\b.jpg", "C:\\Photos\\c.jpg"], "without C:/Photos/ 1 of them are"),
        (["b.jpg", "c.jpg"], "with 2024/ before 1 of them are"),
        (["x/y.jpg"], "(the first: x/y.jpg; an image: 2024/b.jpg)"),
        (["A.JPG", "/b"], "none of the 2 paths"),
        ([], "names none of the 3 images"),
    ],
)
def test_metadata_matching_no_image_is_rejected_with_suggested_prefix(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    file = written(tmp_path, "\n".join(["path,n", *(f"{path},1" for path in paths)]))
    with pytest.raises(DataError) as error:
        Sidecar.of(file).below(tmp_path, IMAGES)
    assert message in str(error.value)
    assert len(Sidecar.of(file).below(tmp_path, []).unmatched([])) == len(paths)


def test_decomposed_unicode_is_composed(tmp_path: Path) -> None:
    csv = written(tmp_path, "path,Gro\u0308ße,tags\na.jpg,Zu\u0308rich,u\u0308;v\n")
    lines = written(
        tmp_path, '{"path": "a.jpg", "Gro\u0308ße": "Zu\u0308rich", "tags": ["u\u0308", "v"]}', "metadata.jsonl"
    )
    for file in (csv, lines):
        assert Sidecar.of(file).metadata("a.jpg") == {"Größe": "Zürich", "tags": ["ü", "v"]}
    written(tmp_path, lines.read_text(), "a.jpg.json")
    assert Sidecar.beside(tmp_path, ["a.jpg"]).metadata("a.jpg") == {"Größe": "Zürich", "tags": ["ü", "v"]}


def test_image_with_two_path_spellings_is_rejected(tmp_path: Path) -> None:
    file = written(tmp_path, f"path,n\na.jpg,1\n{tmp_path}/a.jpg,2\n")
    with pytest.raises(DataError, match=r"names a\.jpg in two ways"):
        Sidecar.of(file).below(tmp_path, IMAGES)


@pytest.mark.parametrize(
    ("before", "kept", "share", "rejected"),
    [(2, 0, 0.25, False), (3, 0, 0.25, True), (12, 9, 0.25, False), (12, 8, 0.25, True), (12, 0, 1.0, False)],
)
def test_losing_metadata_of_many_images_is_rejected(
    tmp_path: Path, before: int, kept: int, share: float, rejected: bool
) -> None:
    described = [f"{number}.jpg" for number in range(before)]
    rows = [f"{name},1" for name in described[:kept]] + [f"{name}," for name in described[kept:]]
    sidecar = Sidecar.of(written(tmp_path, "\n".join(["path,n", *rows])))
    if not rejected:
        sidecar.check_loss(described, share)
        return
    with pytest.raises(DataError, match=f"has nothing for {before - kept} of the {before} images .* --max-removed"):
        sidecar.check_loss(described, share)


def test_image_column_is_metadata_if_path_column_exists(tmp_path: Path) -> None:
    assert Sidecar.of(written(tmp_path, "image,path\nfront,a.jpg\n")).metadata("a.jpg") == {"image": "front"}


def test_differs_only_if_stored_metadata_is_different(tmp_path: Path) -> None:
    sidecar = Sidecar.of(written(tmp_path, "path,n,ok\na.jpg,1,true\n"))
    assert not sidecar.differs("a.jpg", {"metadata": {"ok": True, "n": 1}})
    assert not sidecar.differs("a.jpg", {"metadata": {"ok": True, "n": 1, "x": 5}, "exif": {"n": 2, "x": 5}})
    assert not sidecar.differs("b.jpg", {})
    for stored in ({}, {"n": 1}, {"n": 1, "ok": 1}, {"n": 1.0, "ok": True}, {"n": 1, "ok": True, "x": 1}):
        assert sidecar.differs("a.jpg", {"metadata": stored})
    assert sidecar.differs("b.jpg", {"metadata": {"n": 1}})


@pytest.mark.parametrize("name", sorted(PAYLOAD_FIELDS - {"path"}))
def test_reserved_payload_field_name_is_rejected(tmp_path: Path, name: str) -> None:
    assert field_path(name) == (name,)
    with pytest.raises(DataError, match=f"has the field {name}, a name reserved by the index"):
        Sidecar.of(written(tmp_path, f"path,{name}\nx.jpg,1\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("title\nx\n", "has no column path (its columns: title)"),
        ("path,a\nx.jpg\n", "line 2 of"),
        ("path,a\nx.jpg,1,2\n", "has 3 fields, not the 2 of path, a"),
        ("path,a\nx.jpg,1\ny.jpg,2\nx.jpg,3\n", "line 4 of"),
        ("path,a\nx.jpg,1\n./x.jpg,3\n", "names x.jpg again, after line 2 of"),
        ("path,a\n ,1\n", "names no image"),
        ('path,a\nx.jpg,"1\n', "is not CSV"),
        ('path,a\nx.jpg,"1"2\n', "line 2 of"),
        ("path,a,a\nx.jpg,1,2\n", "has two columns 'a'"),
        ("path,a:int,a\nx.jpg,1,2\n", "has two columns 'a'"),
        ("path,a:itn\nx.jpg,1\n", "has the unknown type 'itn'"),
        ("path,a:int\nx.jpg,1\n\ny.jpg,x\n", "line 4 of"),
        ("path,width\nx.jpg,1\n", "has the field width"),
        ("path,\nx.jpg,1\n", "has the field ''"),
        ('path,"a""b"\nx.jpg,1\n', "which filters cannot use"),
        ("path,a\x07b\nx.jpg,1\n", "which filters cannot use"),
        (f"path,{'n' * 65}\nx.jpg,1\n", "which filters cannot use"),
        ("path,lat,lon\nx.jpg,91,0\n", "location is '91,0', which is not a latitude"),
        ("path,lat,lon\nx.jpg,1,1\ny.jpg,1,\n", "location is '1,', which is not a latitude"),
        ("path,lat,lon,location\nx.jpg,1,1,here\n", "has lat, lon and location"),
        ("path,a\nx.jpg,ä\n".encode("latin-1"), "is not UTF-8"),
        ("path,a\nx.jpg,1\n".encode("utf-16"), "line 1 of"),
    ],
)
def test_invalid_table_is_rejected_with_location(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        Sidecar.of(written(tmp_path, content))
    assert message in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ('{"path": "x.jpg", "path": "y.jpg"}', "is not JSON (duplicate field)"),
        ('{"path": "x.jpg", "n": NaN}', "is not JSON (NaN is not allowed)"),
        ('{"path": "x.jpg", "n": 1e999}', "n is a number that does not fit in 64 bits"),
        ('{"path": "x.jpg", "n": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"path": "x.jpg", "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"path": 5}', "names no image"),
        ('{"a": 5}', "names no image"),
        ('{"path": "x.jpg", "n": "five"}', "n is text, and was a number before"),
        ('{"path": "x.jpg", "n": {"a": 1}}', "n contains a nested object"),
        ('{"path": "x.jpg", "bytes": 1}', "has the field bytes"),
    ],
)
def test_invalid_json_line_is_rejected_with_line_number(tmp_path: Path, line: str, message: str) -> None:
    file = written(tmp_path, '{"path": "first.jpg", "n": 1}\n\n' + line, "metadata.jsonl")
    with pytest.raises(DataError) as error:
        Sidecar.of(file)
    assert message in str(error.value)
    assert f"line 3 of {file}" in str(error.value) or "has the field" in message


def test_unknown_or_missing_metadata_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a supported metadata file"):
        Sidecar.of(written(tmp_path, CSV, "metadata.xlsx"))
    with pytest.raises(DataError, match="no metadata at"):
        Sidecar.of(tmp_path / "nowhere.csv")


def test_sidecar_files_are_read_as_metadata(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for row in ROWS:
        written(tmp_path, json.dumps(without_path(row)), f"{row['path']}.json")
    sidecar = Sidecar.beside(tmp_path, ["a.jpg", "b/c.jpg", "d.jpg"])
    assert [sidecar.metadata(str(row["path"])) for row in ROWS] == [without_path(row) for row in ROWS]
    assert (sidecar.metadata("d.jpg"), len(sidecar.unmatched([]))) == ({}, 2)
    written(tmp_path, '{"year": "then"}', "d.jpg.json")
    with pytest.raises(DataError, match=r"d\.jpg\.json: year is text, and was a number before"):
        Sidecar.beside(tmp_path, ["a.jpg", "b/c.jpg", "d.jpg"])


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text('path,;\t"\n\r:ab1.é\x00', max_size=80).map(lambda text: ("path" + text).encode())
)
def test_arbitrary_bytes_are_parsed_or_rejected(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    for name in ("x.csv", "x.tsv", "x.jsonl"):
        try:
            sidecar = Sidecar.of(written(folder, content, name))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            json.dumps([sidecar.metadata(path) for path in sidecar.unmatched([])], allow_nan=False).encode()
