"""Point ids, paths in the payload, and opening of source files."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.errors import NotFound
from sceneseek.payload import NAMESPACE, open_source_file, path_fields, point_id, relative_path
from sceneseek.store import CollectionInfo, Source

names = st.binary(min_size=1, max_size=60).filter(lambda raw: b"\0" not in raw).map(os.fsdecode)


@given(names)
def test_file_name_round_trips_through_a_json_payload(name: str) -> None:
    fields = path_fields(name)
    assert relative_path(fields) == name
    json.dumps(fields).encode("utf-8")
    fields["path"].encode("utf-8")


@given(names, names)
def test_different_paths_have_different_ids(one: str, other: str) -> None:
    assert (point_id(one) == point_id(other)) == (one == other)


@given(names, names)
def test_ids_of_labelled_sources_do_not_collide(one: str, other: str) -> None:
    path = one.strip("/").replace("//", "/")
    assert point_id(path, "label") != point_id(f"label/{path}")
    assert (point_id(path, "a") == point_id(other, "b")) is False


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60))
def test_id_of_a_utf8_path_is_a_standard_uuid5(path: str) -> None:
    assert point_id(path) == str(uuid.uuid5(NAMESPACE, path))


def info(folder: Path) -> CollectionInfo:
    return CollectionInfo("g", "f", 2, 0, (Source("", str(folder)),), "")


def test_open_source_file_finds_a_file_by_its_raw_name(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"x")
    with open_source_file(info(tmp_path), {**path_fields(name), "source": 0}).content as file:
        assert file.read() == b"x"


@pytest.mark.parametrize("name", ["../secret.jpg", "link.jpg", "gone.jpg", "folder"])
def test_open_source_file_rejects_files_outside_the_folder_and_non_files(tmp_path: Path, name: str) -> None:
    root = tmp_path / "photos"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(NotFound, match="index the folder again"):
        open_source_file(info(root), {"path": name, "source": 0})
