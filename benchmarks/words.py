"""Nouns in several languages and forms: how many of the first ten photographs show the thing; how many searches match.

    python -m benchmarks.words --bundle bundles/compact --index index --captions captions.tsv

A photograph shows a thing if one of its English captions names it. The index contains the photographs of the captions,
identified by file name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.report import Figure, Report, Section, json_option
from sceneseek.bundle import Bundle
from sceneseek.models import ModelRegistry
from sceneseek.options import bundle_option, index_option
from sceneseek.queries import Query
from sceneseek.search import Search
from sceneseek.store import open_store
from sceneseek.tables import read_table

_K = 10
# One thing per line: its words in captions, then singular/plural in each language.
_LANGUAGES = ("English", "German", "French", "Spanish", "Russian", "Chinese")
_THINGS = """
dog dogs puppy | dog/dogs | Hund/Hunde | chien/chiens | perro/perros | собака/собаки | 狗/几只狗
child children kid kids | child/children | Kind/Kinder | enfant/enfants | niño/niños | ребёнок/дети | 孩子/孩子们
man men | man/men | Mann/Männer | homme/hommes | hombre/hombres | мужчина/мужчины | 男人/男人们
woman women lady | woman/women | Frau/Frauen | femme/femmes | mujer/mujeres | женщина/женщины | 女人/女人们
girl girls | girl/girls | Mädchen/Mädchen | fille/filles | niña/niñas | девочка/девочки | 女孩/女孩们
ball balls | ball/balls | Ball/Bälle | ballon/ballons | pelota/pelotas | мяч/мячи | 球/几个球
bike bicycle bikes | bicycle/bicycles | Fahrrad/Fahrräder | vélo/vélos | bicicleta/bicicletas | велосипед/велосипеды | 自行车/几辆自行车
car cars | car/cars | Auto/Autos | voiture/voitures | coche/coches | машина/машины | 汽车/几辆汽车
beach | beach/beaches | Strand/Strände | plage/plages | playa/playas | пляж/пляжи | 海滩/海滩
mountain mountains | mountain/mountains | Berg/Berge | montagne/montagnes | montaña/montañas | гора/горы | 山/群山
horse horses | horse/horses | Pferd/Pferde | cheval/chevaux | caballo/caballos | лошадь/лошади | 马/几匹马
tree trees | tree/trees | Baum/Bäume | arbre/arbres | árbol/árboles | дерево/деревья | 树/树木
street road | street/streets | Straße/Straßen | rue/rues | calle/calles | улица/улицы | 街道/街道
pool | pool/pools | Schwimmbad/Schwimmbäder | piscine/piscines | piscina/piscinas | бассейн/бассейны | 游泳池/游泳池
snow snowy | snow/snow | Schnee/Schnee | neige/neige | nieve/nieve | снег/снег | 雪/雪
boat boats canoe kayak | boat/boats | Boot/Boote | bateau/bateaux | barca/barcas | лодка/лодки | 船/几条船
"""  # noqa: E501, RUF001 - one thing per line, and Russian words
_OUTDOORS = ("outdoors", "draußen", "dehors", "al aire libre", "на улице", "户外")
_FORMS: dict[str, Callable[[str, str, str], str]] = {
    "singular": lambda singular, _, __: singular,
    "plural": lambda _, plural, __: plural,
    "title case": lambda singular, _, __: singular.title(),
    "capitals": lambda singular, _, __: singular.upper(),
    "two tags": lambda singular, _, outdoors: f"{singular}, {outdoors}",
}


@click.command()
@bundle_option
@index_option
@click.option("--captions", type=click.Path(path_type=Path), required=True, help="A TSV with `image` and `caption`.")
@json_option
def words(bundle: Path, index_url: str, captions: Path, json_file: Path | None) -> None:
    """Measure searches for nouns in several languages and forms."""
    caption_words: dict[str, set[str]] = {}
    for row in read_table(captions, "captions").rows:
        tokens = re.findall(r"[a-z]+", row.fields["caption"].lower())
        caption_words.setdefault(Path(row.fields["image"]).name, set()).update(tokens)
    sections = []
    search = Search(ModelRegistry(Bundle.load(bundle), "cpu"), open_store(index_url, searching=True))
    try:
        for number, language in enumerate(_LANGUAGES):
            section = Section(
                f"{language}: share of the first {_K} photographs that show it; share of searches that match"
            )
            for form, inflect in _FORMS.items():
                shares, matching = [], []
                for line in _THINGS.strip().splitlines():
                    english, *translations = (part.strip() for part in line.split("|"))
                    singular, plural = translations[number].split("/")
                    answer = search.query(Query(text=inflect(singular, plural, _OUTDOORS[number]), k=_K))
                    shows = [bool(caption_words[Path(r.path or "").name] & {*english.split()}) for r in answer.results]
                    shares.append(float(np.mean(shows)))
                    matching.append(float(bool(answer.match)))
                section.figures.append(Figure(f"{form}: shows it", "", [float(np.mean(shares))]))
                section.figures.append(Figure(f"{form}: matches", "", [float(np.mean(matching))]))
            sections.append(section)
    finally:
        search.close()
    Report(sections=sections).write(json_file)


if __name__ == "__main__":
    words()
