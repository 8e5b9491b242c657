"""Built-in packs, and user-defined packs in TOML files."""

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
def test_built_in_pack_is_found_by_name(name: str) -> None:
    pack = find_pack(name)
    assert pack.name == name
    assert pack.about


def test_hub_and_pypi_sources_are_pinned() -> None:
    sources = [tower.source for name in pack_names() for tower in find_pack(name).towers]
    assert all("@" in source for source in sources if source.startswith("hub:"))
    assert all("==" in source for source in sources if source.startswith("pypi:"))


def test_pack_file_resolves_folders_relative_to_itself(tmp_path: Path) -> None:
    pack = find_pack(written(tmp_path, GOOD))
    assert pack.name == "mine"
    assert [tower.source for tower in pack.towers] == [f"dir:{tmp_path}/models/clip", "dir:/models/clip"]
    assert pack.joint_space == OwnSpace("eye", "ear", 40, -10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("slope = 40\n", ""), "joint_space.*slope and intercept must be given together"),
        (('text = "ear"', 'text = "nose"'), "no text tower 'nose'; choose one of ear"),
        (('source = "dir:models/clip"', 'source = "models/clip"'), "the source of 'eye' must begin with"),
        (('about = "my own"\n', ""), "about: Field required"),
        (('about = "my own"', 'abuot = "my own"'), "abuot: Unexpected"),
        (('name = "eye"', 'name = "ear"'), "two towers have the same name"),
        (('name = "mine"', 'name = "My pack"'), "'My pack' is not a name"),
        (("[joint_space]", "[joint_space"), "cannot be read"),
        (("[[text_towers]]", "[[text_tower]]"), "text_tower"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_invalid_pack_file_is_rejected_with_location(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(DataError, match=message) as caught:
        find_pack(written(tmp_path, GOOD.replace(*change, 1)))
    assert "mine.toml" in str(caught.value)
    assert "docs/how-to/packs.md" in str(caught.value)


def test_missing_pack_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pack at .*mine\.toml"):
        find_pack(tmp_path / "mine.toml")


def test_unknown_pack_error_lists_known_packs() -> None:
    with pytest.raises(InvalidRequest, match=r"unknown pack 'compcat'.*compact.*\.toml"):
        find_pack("compcat")


def test_learned_space_allows_one_or_two_text_towers() -> None:
    three = (TEXTS, replace(TEXTS, name="other"), replace(TEXTS, name="third"))
    with pytest.raises(ValueError, match="at most two text towers"):
        Pack("p", "", (IMAGES,), three)
    assert len(Pack("p", "", (IMAGES,), three[:2]).text_towers) == 2
    assert len(Pack("p", "", (IMAGES,), three, OwnSpace("eye", "ear")).text_towers) == 3


def test_head_reads_towers_not_used_by_joint_space() -> None:
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


def test_local_directory_replaces_hub_source_in_every_tower() -> None:
    ear = TextTowerSpec("ear", "clip-text", "hub:someone/eye@abc")
    pack = Pack("p", "", (IMAGES,), (ear,), OwnSpace("eye", "ear")).with_local({"someone/eye": Path("/models/eye")})
    assert [tower.source for tower in pack.towers] == ["dir:/models/eye"] * 2


def test_local_directory_for_unknown_source_is_rejected() -> None:
    pack = Pack("p", "", (IMAGES,), (TEXTS,))
    with pytest.raises(InvalidRequest, match=r"the hub model 'someone/nose'.*it uses someone/ear, someone/eye"):
        pack.with_local({"someone/nose": Path("x")})
    with pytest.raises(InvalidRequest, match="uses no model from the hub"):
        find_pack("compact").with_local({"someone/eye": Path("x")})
