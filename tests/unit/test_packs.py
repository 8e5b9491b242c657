"""Packs are data: those that come with sceneseek, and a user's own in a TOML file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sceneseek.errors import DataError, InvalidRequest
from sceneseek_export.packs import ImageTowerSpec, OwnSpace, Pack, TextTowerSpec, find_pack, pack_names

IMAGES = ImageTowerSpec("eye", "resnet", "hub:someone/eye@abc")
TEXTS = TextTowerSpec("ear", "bert", "hub:someone/ear@abc")

GOOD = """
name = "mine"
about = "my own"

[[image_towers]]
name = "eye"
architecture = "clip-image"
source = "dir:models/clip"

[[text_towers]]
name = "ear"
architecture = "clip-text"
source = "dir:/models/clip"

[joint_space]
image = "eye"
text = "ear"
slope = 40
intercept = -10
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", pack_names())
def test_every_pack_that_comes_with_sceneseek_can_be_read_under_its_name(name: str) -> None:
    pack = find_pack(name)
    assert pack.name == name
    assert pack.about


def test_hub_sources_are_pinned_to_a_revision() -> None:
    sources = [tower.source for name in pack_names() for tower in find_pack(name).towers]
    assert all("@" in source for source in sources if source.startswith("hub:"))
    assert all("==" in source for source in sources if source.startswith("pypi:"))


def test_a_users_file_is_a_pack_whose_folders_are_relative_to_it(tmp_path: Path) -> None:
    pack = find_pack(written(tmp_path, GOOD))
    assert pack.name == "mine"
    assert [tower.source for tower in pack.towers] == [f"dir:{tmp_path}/models/clip", "dir:/models/clip"]
    assert pack.joint_space == OwnSpace("eye", "ear", 40, -10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("slope = 40\n", ""), "joint_space.*slope and intercept come together"),
        (('text = "ear"', 'text = "nose"'), "no text tower 'nose'; there are ear"),
        (('source = "dir:models/clip"', 'source = "models/clip"'), "the source of 'eye' begins with none of"),
        (('about = "my own"\n', ""), "about: Field required"),
        (('about = "my own"', 'abuot = "my own"'), "abuot: Unexpected"),
        (('name = "eye"', 'name = "ear"'), "two towers have the same name"),
        (('name = "mine"', 'name = "My pack"'), "'My pack' is not a name"),
        (("[joint_space]", "[joint_space"), "cannot be read"),
        (("[[text_towers]]", "[[text_tower]]"), "text_tower"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_file_that_is_not_a_pack_is_refused_with_the_place(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    assert change[0] in GOOD
    with pytest.raises(DataError, match=said) as caught:
        find_pack(written(tmp_path, GOOD.replace(*change, 1)))
    assert "mine.toml" in str(caught.value)
    assert "docs/how-to/packs.md" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pack at .*mine\.toml"):
        find_pack(tmp_path / "mine.toml")


def test_an_unknown_pack_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"unknown pack 'compcat'.*compact.*\.toml"):
        find_pack("compcat")


def test_a_learned_space_has_one_text_tower_or_two() -> None:
    three = (TEXTS, replace(TEXTS, name="other"), replace(TEXTS, name="third"))
    with pytest.raises(ValueError, match="one text tower or two"):
        Pack("p", "", (IMAGES,), three)
    assert len(Pack("p", "", (IMAGES,), three[:2]).text_towers) == 2
    assert len(Pack("p", "", (IMAGES,), three, OwnSpace("eye", "ear")).text_towers) == 3


def test_heads_read_the_towers_that_the_joint_space_does_not() -> None:
    eye, ear = replace(IMAGES, name="resnet50"), replace(TEXTS, name="bert")
    learned = Pack("p", "", (eye,), (ear,))
    own = Pack("p", "", (IMAGES,), (TEXTS,), OwnSpace("eye", "ear"))
    both = Pack("p", "", (IMAGES, eye), (TEXTS, ear), OwnSpace("eye", "ear"))
    read = [(pack.head_image_towers, pack.head_text_towers, pack.needs_head) for pack in (learned, own, both)]
    assert read == [
        (("resnet50",), ("bert",), False),
        (("eye",), ("ear",), False),
        (("resnet50",), ("bert",), True),
    ]


def test_a_local_directory_takes_the_place_of_a_hub_name_in_every_tower_that_has_it() -> None:
    ear = TextTowerSpec("ear", "clip-text", "hub:someone/eye@abc")
    pack = Pack("p", "", (IMAGES,), (ear,), OwnSpace("eye", "ear")).with_local({"someone/eye": Path("/models/eye")})
    assert [tower.source for tower in pack.towers] == ["dir:/models/eye"] * 2


def test_a_local_directory_for_something_else_is_refused() -> None:
    pack = Pack("p", "", (IMAGES,), (TEXTS,))
    with pytest.raises(InvalidRequest, match=r"nothing named 'someone/nose'.*it takes someone/ear, someone/eye"):
        pack.with_local({"someone/nose": Path("x")})
    with pytest.raises(InvalidRequest, match="takes nothing from the hub"):
        find_pack("compact").with_local({"someone/eye": Path("x")})
