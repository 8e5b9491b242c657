"""Text in images, from a drawn sign to a search result, with real OCR, a real bundle and real engines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from sceneseek.bundle import Bundle
from sceneseek.errors import MissingExtra, SourceError
from sceneseek.models import ModelRegistry
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import VectorStore, open_store
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_server.app import create_app
from sceneseek_server.service import AccessSettings
from tests.command_line import CommandLine
from tests.drawing import scenery
from tests.engines import opened

rapidocr = pytest.importorskip("rapidocr", reason="rapidocr is not installed (the extra ocr has it)")

SIGNS = {"pharmacy.jpg": "PHARMACY", "bakery.png": "BAKERY\nopen late", "plain.jpg": ""}


def draw_sign(path: Path, text: str, seed: int) -> None:
    """Draw scenery with a sign."""
    image = scenery(seed).convert("RGB").resize((480, 360))
    if text:
        draw = ImageDraw.Draw(image)
        draw.rectangle((60, 80, 420, 240), fill="white")
        draw.multiline_text((80, 100), text, fill="black", font=ImageFont.load_default(48))
    image.save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = tmp_path_factory.mktemp("signs")
    for seed, (name, text) in enumerate(SIGNS.items(), start=9):
        draw_sign(photos / name, text, seed)
    for seed in (3, 4, 6, 7, 8):
        draw_sign(photos / f"scene {seed}.jpg", "", seed)
    return photos


@pytest.fixture(params=["edge", "played"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    with opened(request.param, tmp_path) as store:
        yield store


def open_search(bundle: Bundle, store: VectorStore) -> Search:
    return Search(ModelRegistry(bundle, "cpu"), store)


def test_image_with_the_query_text_ranks_first_and_whole_words_score_higher(
    bundle: Bundle, store: VectorStore, folder: Path
) -> None:
    report = index_folder(folder, bundle, store, BuildOptions(ocr=True))
    assert (report.indexed, report.texts) == (len(list(folder.iterdir())), 2)
    search = open_search(bundle, store)
    try:
        for text, path, match in [
            ("pharmacy", "pharmacy.jpg", 1),
            ("a sign that says Pharmacy", "pharmacy.jpg", 1),
            ("Bäkery", "bakery.png", 1),
            ("open late", "bakery.png", 1),
            ("pharma", "pharmacy.jpg", 0.7),
        ]:
            first, second = search.query(Query(text=text, k=2)).results
            assert first.path == path, text
            assert first.text_match == pytest.approx(match)
            assert second.text_match == 0
            assert first.score is not None
            assert (first.score > 0.89) == (match == 1)
        first = search.query(Query(text="pharmacy", k=1)).results[0]
        assert first.text == "PHARMACY"
        # Each image appears on one page only.
        pages = [search.query(Query(text="pharmacy", k=3, shortlist=3, offset=at)).results for at in (0, 3, 6)]
        ids = [result.id for page in pages for result in page]
        assert len(ids) == len(set(ids)) == report.indexed
        # Text in images counts only in a search by a single text.
        like = search.query(Query(text="pharmacy", image=first.id, k=2)).results
        assert {result.text_match for result in like} == {None}
    finally:
        search.close()


def test_text_filter_matches_whole_words_only(bundle: Bundle, store: VectorStore, folder: Path) -> None:
    index_folder(folder, bundle, store, BuildOptions(ocr=True))
    search = open_search(bundle, store)
    try:
        for condition, expected in [
            ('text:"late OPEN"', ["bakery.png"]),
            ("text:pharmacy", ["pharmacy.jpg"]),
            ("text:pharma", []),
        ]:
            assert [
                result.path for result in search.query(Query(text="a sign", filter=[condition])).results
            ] == expected
    finally:
        search.close()


def test_index_without_texts_has_no_text_match_and_hints_at_ocr(
    bundle: Bundle, store: VectorStore, folder: Path
) -> None:
    index_folder(folder, bundle, store)
    search = open_search(bundle, store)
    try:
        assert {result.text_match for result in search.query(Query(text="pharmacy")).results} == {None}
        answer = search.query(Query(text="pharmacy", filter=["text:pharmacy"]))
        assert answer.results == ()
        assert [hint.text for hint in answer.hints] == ["no text was read in the images: index them with --ocr"]
    finally:
        search.close()


def test_later_run_reads_missing_texts_and_the_index_remembers_the_ocr_option(
    bundle: Bundle, folder: Path, tmp_path: Path
) -> None:
    photos = Path(shutil.copytree(folder, tmp_path / "photos"))
    shutil.copy(photos / "pharmacy.jpg", photos / "the same.jpg")
    store = open_store(f"file:{tmp_path}/index")
    metadata = tmp_path / "titles.csv"
    metadata.write_text("path,title\npharmacy.jpg,One\nthe same.jpg,Two\n")
    total = len(list(photos.iterdir()))
    plain = index_folder(photos, bundle, store, BuildOptions(metadata=str(metadata)))
    assert (plain.indexed + plain.copied, plain.texts) == (total, 0)
    read = index_folder(photos, bundle, store, BuildOptions(ocr=True))
    assert (read.indexed, read.copied, read.unchanged, read.texts) == (total - 1, 1, 0, 2)
    draw_sign(photos / "new.jpg", "EXIT", 20)
    remembered = index_folder(photos, bundle, store)
    assert (remembered.indexed, remembered.unchanged, remembered.texts) == (1, total, 1)
    draw_sign(photos / "newer.jpg", "TICKETS", 21)
    without = index_folder(photos, bundle, store, BuildOptions(ocr=False))
    assert (without.indexed, without.texts) == (1, 0)
    caught_up = index_folder(photos, bundle, store)
    assert (caught_up.indexed, caught_up.unchanged, caught_up.texts) == (1, total + 1, 1)
    search = open_search(bundle, store)
    try:
        results = search.query(Query(text="pharmacy", k=2, keep_duplicates=True)).results
        assert {(result.path, result.metadata["title"]) for result in results} == {
            ("pharmacy.jpg", "One"),
            ("the same.jpg", "Two"),
        }
    finally:
        search.close()


def test_service_returns_texts_and_filters_by_them(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}/index")
    index_folder(folder, bundle, store, BuildOptions(ocr=True))
    search = open_search(bundle, store)
    try:
        client = create_app(search, AccessSettings(show_paths=True)).test_client()
        first, second = client.get("/v1/search?q=pharmacy&k=2").get_json()["results"]
        assert (first["path"], first["text"], first["text_match"]) == ("pharmacy.jpg", "PHARMACY", 1)
        assert (second["text"], second["text_match"]) == ("BAKERY\nopen late", 0)
        assert client.get(f"/v1/images/{first['id']}/details").get_json()["text"] == "PHARMACY"
        body = {"q": "a sign", "filter": {"words": "open late"}}
        assert [r["path"] for r in client.post("/v1/search", json=body).get_json()["results"]] == ["bakery.png"]
        nothing = client.post("/v1/search", json={"q": "a sign", "filter": {"words": "..."}}).get_json()
        assert nothing["results"] == []
        assert client.post("/v1/search", json={"q": "a sign", "filter": {"words": 1}}).status_code == 400
    finally:
        search.close()


def test_command_line_reads_and_shows_texts(
    bundle: Bundle, folder: Path, tmp_path: Path, sceneseek: CommandLine
) -> None:
    options = ("--bundle", str(bundle.path), "--index", f"file:{tmp_path}/index")
    assert "with text 2" in sceneseek("index", str(folder), "--ocr", *options).stdout
    output = sceneseek("search", "open late", "-k", "1", *options).stdout
    assert output.splitlines()[0].endswith('bakery.png  "BAKERY / open late"')


def test_missing_ocr_extra_raises(
    bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    store = open_store(f"file:{tmp_path}/index")
    with pytest.raises(MissingExtra, match=r"sceneseek\[ocr\]"):
        index_folder(folder, bundle, store, BuildOptions(ocr=True))
    assert index_folder(folder, bundle, store).texts == 0


def test_invalid_ocr_model_is_rejected(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    options = BuildOptions(ocr=True, ocr_model=tmp_path / "model.onnx")
    with pytest.raises(SourceError, match=r"model\.onnx cannot be used"):
        index_folder(folder, bundle, open_store(f"file:{tmp_path}/index"), options)


def test_text_reader_accepts_transparent_and_tiny_images(tmp_path: Path) -> None:
    from sceneseek_indexer.ocr import TextReader  # noqa: PLC0415 - needs the extra ocr

    reader = TextReader()
    sign = Image.new("RGBA", (300, 100))
    ImageDraw.Draw(sign).text((20, 20), "TICKETS", fill="black", font=ImageFont.load_default(48))
    assert reader.read(sign) == "TICKETS"
    for size in [(1, 1), (2_000, 3), (3, 2_000)]:
        assert reader.read(Image.new("RGB", size, "red")) == ""
