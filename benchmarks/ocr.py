"""Signs in several scripts, drawn into photographs: how many are read, and at which rank a search finds them.

    python -m benchmarks.ocr draw --images photos --signs signs --font FILE --cjk-font FILE
    python -m benchmarks.ocr read --signs signs
    sceneseek index mixed --ocr --index file:with; sceneseek index mixed --no-ocr --index file:without
    python -m benchmarks.ocr search --signs signs --captions captions.tsv --index file:with --without file:without

`mixed` contains the signs and the photographs of the captions, identified by file name.
"""

from __future__ import annotations

import csv
import random
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.report import Figure, Report, Section, json_option
from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.options import bundle_option, index_option
from sceneseek.picture import decode
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.tables import read_table
from sceneseek.text_tokens import coverage, query_words
from sceneseek_indexer.ocr import TextReader

_WORDS = {
    "English": "bakery pharmacy exit parking library museum station hotel danger welcome closed open police market "
    "coffee harbour bridge school garden ticket",
    "Latin with diacritics": "Bäckerei Straße Öffnung Gemüse café pâtisserie fermé hôtel niño señal estación łódź "
    "wejście księgarnia čeština příjem ağaç çiçek køb udgång",
    "Cyrillic": "аптека выход вокзал школа хлеб музей рынок гостиница закрыто открыто",
    "Greek": "φαρμακείο έξοδος σταθμός σχολείο ψωμί μουσείο αγορά κλειστό ανοιχτό βιβλιοθήκη",
    "Chinese and Japanese": "出口 药店 学校 图书馆 博物馆 市场 咖啡 危险 停车场 欢迎 車站 銀行 駐車場 警察 公園",
}
_SIGNS_PER_SCRIPT = 40
_K = 10


@click.group()
def ocr() -> None:
    """Draw signs, read them, and search for them."""


signs_option = click.option("--signs", type=click.Path(path_type=Path), required=True, help="The folder of the signs.")


@ocr.command()
@signs_option
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="Photographs to draw into.")
@click.option("--font", "fonts", multiple=True, required=True, help="A font for Latin, Cyrillic and Greek.")
@click.option("--cjk-font", help="A font for Chinese and Japanese, which are skipped without it.")
def draw(signs: Path, images: Path, fonts: tuple[str, ...], cjk_font: str | None) -> None:
    """Draw words into photographs, one each: on a board or outlined, 18 to 56 pixels high, slightly rotated."""
    signs.mkdir(parents=True, exist_ok=True)
    rng = random.Random(3)  # noqa: S311 - the same signs each time
    photographs = sorted(images.rglob("*.jpg"))
    rng.shuffle(photographs)
    rows = []
    for script, words in _WORDS.items():
        script_fonts = list(fonts) if script != "Chinese and Japanese" else [cjk_font] if cjk_font else []
        for number in range(_SIGNS_PER_SCRIPT if script_fonts else 0):
            word = words.split()[number % len(words.split())]
            word = word.upper() if rng.random() < 0.4 else word
            picture = Image.open(photographs.pop()).convert("RGB")
            _draw_sign(picture, word, str(rng.choice(script_fonts)), rng)
            name = f"{script.split()[0].lower()}-{number:02}.jpg"
            picture.save(signs / name, quality=88)
            rows.append((name, script, word))
    with (signs / "signs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def _draw_sign(picture: Image.Image, word: str, font: str, rng: random.Random) -> None:
    size = rng.randint(18, 56)
    face, edge = ImageFont.truetype(font, size), size // 3
    left, top, right, bottom = map(int, face.getbbox(word))
    sign = Image.new("RGBA", (right - left + 2 * edge, bottom - top + 2 * edge))
    board = tuple(rng.randrange(256) for _ in range(3))
    ink = tuple(rng.randrange(0, 90) if sum(board) > 380 else rng.randrange(180, 256) for _ in range(3))
    paint = ImageDraw.Draw(sign)
    if rng.random() < 0.8:
        paint.rectangle((0, 0, *sign.size), fill=board)
        paint.text((edge - left, edge - top), word, font=face, fill=ink)
    else:
        paint.text((edge - left, edge - top), word, font=face, fill="white", stroke_width=2, stroke_fill="black")
    sign = sign.rotate(rng.uniform(-12, 12), expand=True, resample=Image.Resampling.BICUBIC)
    sign.thumbnail((int(0.95 * picture.width), picture.height))
    corner = rng.randint(0, picture.width - sign.width), rng.randint(0, picture.height - sign.height)
    picture.paste(sign, corner, sign)


def _signs(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "signs.csv").open(encoding="utf-8", newline="") as file:
        return [(name, script, word) for name, script, word in csv.reader(file)]


@ocr.command()
@signs_option
@click.option("--ocr-model", type=click.Path(path_type=Path), help="As for `sceneseek index`.")
@json_option
def read(signs: Path, ocr_model: Path | None, json_file: Path | None) -> None:
    """Measure the share of signs that are read, and the time per image on one thread."""
    reader = TextReader(ocr_model)
    found, seconds = defaultdict(list), []
    for name, script, word in _signs(signs):
        picture = decode((signs / name).read_bytes(), reader.side)
        start = time.perf_counter()
        text = reader.read(picture.pixels)
        seconds.append(time.perf_counter() - start)
        found[script].append(coverage(query_words(word), text) == 1)
    section = Section("share of signs that are read")
    section.figures += [Figure(script, "", [float(np.mean(each))]) for script, each in found.items()]
    section.figures.append(Figure("time per image, one thread", "ms", [1e3 * each for each in seconds]))
    Report(sections=[section]).write(json_file)


@ocr.command()
@bundle_option
@index_option
@signs_option
@click.option("--without", "plain_url", required=True, help="An index of the same pictures without their text.")
@click.option("--captions", type=click.Path(path_type=Path), required=True, help="A TSV with `image` and `caption`.")
@json_option
def search(bundle: Path, index_url: str, signs: Path, plain_url: str, captions: Path, json_file: Path | None) -> None:
    """Measure the rank at which a search finds a sign by its word, and a photograph by its captions."""
    registry = ModelRegistry(Bundle.load(bundle), "cpu")
    sections = []
    for title, url in (("with text", index_url), ("without", plain_url)):
        opened = Search(registry, open_store(url, searching=True))
        try:
            section = Section(f"{title}: share of searches that find it first, and in the first {_K}")
            indexed = _names(opened)
            words = {word.lower(): word for _, _, word in _signs(signs)}
            shown = defaultdict(set)
            for name, script, word in _signs(signs):
                shown[script, word.lower()].add(name)
            by_script = defaultdict(list)
            for (script, word), names in shown.items():
                by_script[script].append((words[word], names))
            for script, queries in by_script.items():
                _add(section, f"a sign, {script}", opened, queries)
            captioned = [
                (row.fields["caption"], {Path(row.fields["image"]).name})
                for row in read_table(captions, "captions").rows
                if Path(row.fields["image"]).name in indexed
            ]
            _add(section, f"a photograph, by its {len(captioned):,} captions", opened, captioned)
            sections.append(section)
        finally:
            opened.close()
    Report(sections=sections).write(json_file)


def _names(search: Search) -> set[str]:
    with search.follower.borrow() as snapshot:
        return {Path(record.payload["path"]).name for record in snapshot.collection.scroll()}


def _add(section: Section, what: str, search: Search, queries: list[tuple[str, set[str]]]) -> None:
    found = [
        [Path(result.path or "").name in names for result in search.query(Query(text=text, k=_K)).results]
        for text, names in queries
    ]
    section.figures.append(Figure(f"{what}: first", "", [float(np.mean([bool(each) and each[0] for each in found]))]))
    section.figures.append(Figure(f"{what}: first {_K}", "", [float(np.mean([any(each) for each in found]))]))


if __name__ == "__main__":
    ocr()
