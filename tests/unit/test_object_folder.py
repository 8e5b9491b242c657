"""The URL of an object store consists of a bucket and a prefix, without credentials."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sceneseek.errors import InvalidRequest, MissingExtra
from sceneseek.object_store import ObjectFolder
from sceneseek.sources import holds_files, open_file, parse_root
from sceneseek.store import Source
from sceneseek_indexer.source_scan import Folder, join_sources


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://photos", ObjectFolder("photos", "")),
        ("s3://photos/", ObjectFolder("photos", "")),
        ("s3://photos/2024/May/", ObjectFolder("photos", "2024/May")),
        ("s3://my.photos_1/a b@c:d", ObjectFolder("my.photos_1", "a b@c:d")),
    ],
)
def test_url_is_parsed_into_bucket_and_prefix(url: str, expected: ObjectFolder) -> None:
    assert parse_root(url) == expected
    assert parse_root(str(expected)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:TopSecret@photos/2024",
        "s3://AKIAKEY:Top/Secret@photos",
        "s3://TopSecret@photos/2024",
        "s3://photos/2024?secret_access_key=TopSecret",
        "https://photos.example/2024?X-Amz-Signature=TopSecret",
        "ftp://me:TopSecret@host/",
    ],
)
def test_url_with_credentials_is_rejected_without_being_repeated(url: str) -> None:
    for text in (url, f"label={url}"):
        with pytest.raises(InvalidRequest) as caught:
            Folder.parse(text)
        assert "Secret" not in str(caught.value)
        assert "AKIAKEY" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///a", "s3://a", "s3://photos//a", "s3://photos/a/../b", "s3://pho tos/a"]
)
def test_invalid_object_store_url_is_rejected(url: str) -> None:
    with pytest.raises(InvalidRequest, match="write s3://BUCKET/PREFIX"):
        parse_root(url)


def test_prefixes_and_folders_are_joined_as_labelled_sources() -> None:
    known = (Source("", "/photos"), Source("May", "s3://photos/2024/May"))
    sources = join_sources(known, [Folder.parse("s3://photos/2024/May/"), Folder.parse("sea=s3://photos/sea")])
    assert sources.every == (*known, Source("sea", "s3://photos/sea"))
    assert list(sources.read) == [1, 2]
    assert join_sources((), [Folder(Path("/photos")), Folder.parse("s3://b-1/x")]).every[1] == Source("x", "s3://b-1/x")
    assert join_sources(known, [Folder.parse("s3://photos/new")], [parse_root("s3://photos/2024/May")]).forgotten == {1}


def test_missing_package_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    folder = parse_root("s3://without-packages/a")
    assert isinstance(folder, ObjectFolder)
    for attempt in (lambda: list(folder.objects()), lambda: open_file(folder, "a.png")):
        with pytest.raises(MissingExtra, match="sceneseek\\[s3\\]"):
            attempt()
    assert not holds_files(folder)
