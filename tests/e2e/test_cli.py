"""The command line as a user meets it: real processes, real files, one line for every mistake."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.drawing import NAMES, draw_gallery
from tests.played_qdrant import PlayedQdrant


@pytest.fixture(autouse=True, scope="module")
def here(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every command finds the bundle and the index by the environment, in an empty directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCENESEEK_BUNDLE", str(bundle.path))
        patch.setenv("SCENESEEK_INDEX", index_url)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


def assert_one_line(outcome: subprocess.CompletedProcess[str], *said: str, code: int = 1) -> None:
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stdout == ""
    message = outcome.stderr.strip().splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert message.lower().startswith("error: ")
    for words in said:
        assert words in message
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_index_then_search_then_index_again(sceneseek: CommandLine, tmp_path: Path) -> None:
    photos, index = draw_gallery(tmp_path / "my photos"), f"file:{tmp_path}/index"
    first = sceneseek.process("index", photos, "--index", index)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"indexed {len(NAMES)}, unchanged 0, skipped 0\n")
    assert f"indexing: {len(NAMES)} of {len(NAMES)} images" in first.stderr

    found = sceneseek.process("search", "a red circle", "-k", "3", "--index", index)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in lines)
    assert all(line.split(maxsplit=2)[2] in NAMES for line in lines)

    again = json.loads(sceneseek("index", photos, "--index", index, "--json").stdout)
    assert (again["indexed"], again["unchanged"], again["skipped"]) == (0, len(NAMES), [])
    assert set(again["seconds"]) == {"load", "encode", "upsert", "optimise", "compare", "total"}


def test_search_can_be_filtered_and_a_wrong_condition_is_an_error(sceneseek: CommandLine) -> None:
    found = sceneseek("search", "the sea", "-k", "12", "--where", "path^=scenes/", "--where", "format=JPEG")
    assert found.returncode == 0, found.stderr
    assert {line.split(maxsplit=2)[2] for line in found.stdout.splitlines()} == {
        name for name in NAMES if name.startswith("scenes/") and name.endswith(".jpg")
    }
    assert_one_line(sceneseek("search", "the sea", "--where", "format"), "'format' has no comparison", code=2)


def test_an_index_moves_to_a_server_and_is_searched_there(sceneseek: CommandLine, index_url: str) -> None:
    with PlayedQdrant().serving() as played:
        moved = sceneseek("index", "move", index_url, played.url, SCENESEEK_QDRANT_PREFER_GRPC="no")
        assert moved.returncode == 0, moved.stderr
        assert moved.stdout.startswith(f"moved {len(NAMES)}, unchanged 0, from {index_url} to {played.url}\n")
        here, there = (sceneseek("search", "a red circle", SCENESEEK_INDEX=url) for url in (index_url, played.url))
        assert there.returncode == 0, there.stderr
        assert there.stdout == here.stdout
    assert_one_line(sceneseek("search", "a red circle", SCENESEEK_INDEX=played.url), "no Qdrant server answers")


def test_a_form_of_index_without_its_arguments_is_a_usage_error(sceneseek: CommandLine, index_url: str) -> None:
    for form in ((), ("watch",)):
        assert_one_line(sceneseek("index", *form), "Missing argument 'FOLDER...'", code=2)
    assert_one_line(sceneseek("index", "move", index_url), "Missing argument 'TO'", code=2)
    assert_one_line(sceneseek("index", "--index", index_url, "status"), "right after `sceneseek index`", code=2)


def test_paths_are_those_of_the_files_one_a_line_or_after_null_bytes(sceneseek: CommandLine, gallery: Path) -> None:
    listed = [line.split(maxsplit=2)[2] for line in sceneseek("search", "the sea", "-k", "3").stdout.splitlines()]
    found = sceneseek("search", "the sea", "-k", "3", "--paths")
    assert [Path(path) for path in found.stdout.splitlines()] == [gallery / name for name in listed]
    null = sceneseek.process("search", "the sea", "-k", "3", "--paths", "-0")
    assert null.stdout == "".join(f"{gallery / name}\0" for name in listed)
    for wrong in (["-0"], ["--paths", "--json"], ["--link-to", "x", "--url", "http://127.0.0.1:9"]):
        assert_one_line(sceneseek("search", "the sea", *wrong), code=2)


def test_files_are_copied_and_linked_and_none_is_replaced(
    sceneseek: CommandLine, service_url: str, gallery: Path, tmp_path: Path
) -> None:
    names = [line.split(maxsplit=2)[2] for line in sceneseek("search", "the sea", "-k", "3").stdout.splitlines()]
    target, last = tmp_path / "copies", Path(names[2]).name
    target.mkdir()
    (target / last).write_text("mine")
    first = sceneseek("search", "the sea", "-k", "3", "--copy-to", target)
    assert first.stderr.splitlines()[-1] == f"copied 3 files to {target}"
    again = sceneseek("search", "the sea", "-k", "3", "--copy-to", target)
    assert again.stderr.splitlines()[-1] == f"copied 0 files to {target}, 3 already existed"
    assert (target / last).read_text() == "mine"
    copy = f"{Path(last).stem} (2){Path(last).suffix}"
    assert (target / copy).read_bytes() == (gallery / names[2]).read_bytes()
    assert {file.name for file in target.iterdir()} == {*(Path(name).name for name in names), copy}
    sceneseek("search", "the sea", "-k", "3", "--link-to", tmp_path / "links")
    assert {link.resolve() for link in (tmp_path / "links").iterdir()} == {gallery / name for name in names}
    assert all(link.is_symlink() for link in (tmp_path / "links").iterdir())
    # A service that hides paths names files by their ids.
    sceneseek("search", "the sea", "-k", "3", "--copy-to", tmp_path / "sent", "--url", service_url)
    sent = {file.read_bytes() for file in (tmp_path / "sent").iterdir()}
    assert sent == {(gallery / name).read_bytes() for name in names}
    assert "hides the paths" in sceneseek("search", "the sea", "--paths", "--url", service_url).stderr
    (tmp_path / "file").touch()
    failed = sceneseek("search", "the sea", "--copy-to", tmp_path / "file")
    assert failed.returncode == 1
    assert "cannot be written or read (File exists)" in failed.stderr


def test_previews_are_drawn_in_a_terminal_and_nowhere_else(sceneseek: CommandLine) -> None:
    pytest.importorskip("textual_image", reason="textual-image is not installed (the extra preview has it)")
    plain = sceneseek.process("search", "the sea", "-k", "2")
    assert sceneseek.process("search", "the sea", "-k", "2", "--preview").stdout == plain.stdout
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 800, 1_000))
    command = [str(Path(sys.executable).with_name("sceneseek")), "search", "the sea", "-k", "2", "--preview"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal has gone with the command
            while part := os.read(ours, 65_536):
                shown += part
        assert process.wait(60) == 0
    os.close(ours)
    # This terminal answers no question, so two pixels are one character.
    assert shown.count("▀".encode()) > 100
    assert all(line.encode() in shown for line in plain.stdout.splitlines())


def test_plus_and_minus_are_words_files_and_ids(sceneseek: CommandLine, gallery: Path) -> None:
    sea = json.loads(sceneseek("search", "the sea", "-k", "1", "--json").stdout)["results"][0]["id"]
    found = json.loads(sceneseek("search", "a drawing", "--plus", "the sea:0.5", "--minus", sea, "--json").stdout)
    assert found["query"] == "a drawing, the sea:0.5"
    assert sea not in [result["id"] for result in found["results"]]
    beside = ("search", "a drawing", "-k", "3", "--plus", f"{gallery / 'scenes/sea.jpg'}:0.9")
    first = json.loads(sceneseek(*beside, "--json").stdout)["results"][0]
    assert first["path"] == "scenes/sea.jpg"
    printed = sceneseek(*beside).stdout.splitlines()[0]
    assert printed == f" 1  {first['similarity']:.2f}  scenes/sea.jpg", "results come by similarity"
    alone = sceneseek("search", "--plus", "the sea").stdout
    assert alone == sceneseek("search", "the sea").stdout
    assert_one_line(sceneseek("search", "--minus", "the sea"), "neither QUERY nor --image nor --plus", code=2)


def test_search_prints_json_for_programs(sceneseek: CommandLine) -> None:
    answer = json.loads(sceneseek("search", "the sea", "--json").stdout)
    assert answer["query"] == "the sea"
    assert len(answer["results"]) == 5
    assert {"rank", "id", "score", "similarity", "path", "metadata"} <= set(answer["results"][0])
    assert answer["timings_ms"]["total"] > 0


def test_each_line_of_a_file_of_queries_is_a_search_of_its_own(
    sceneseek: CommandLine, service_url: str, tmp_path: Path
) -> None:
    texts = ["the sea", "a red circle", *(f"{number} houses" for number in range(40))]
    file = tmp_path / "queries.txt"
    file.write_text("\ufeff" + "\n\n".join(f"  {text}" for text in texts), encoding="utf-8")
    alone = sceneseek("search", texts[1], "-k", "2").stdout
    for place in ((), ("--url", service_url, "--timeout", "60")):
        found = sceneseek("search", "--queries", file, "-k", "2", *place)
        listings = found.stdout.split("\n\n")
        assert [listing.splitlines()[0] for listing in listings] == texts
        if not place:  # without a service's right to show them, a listing has no paths
            assert listings[1] + "\n" == f"{texts[1]}\n{alone}"
        answers = sceneseek("search", "--queries", file, "-k", "2", "--json", *place).stdout.splitlines()
        assert [json.loads(answer)["query"] for answer in answers] == texts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\n \n", "contains no query"),
        (b"caf\xe9", "is not UTF-8"),
        (b"a dog\n" + b"word " * 1_000, "4,999 characters"),
    ],
)
def test_a_file_of_queries_that_cannot_be_searched_prints_no_answer(
    sceneseek: CommandLine, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "queries.txt"
    if content is not None:
        file.write_bytes(content)
    found = sceneseek("search", "--queries", file)
    assert found.stdout == ""
    assert_one_line(found, said, code=found.returncode)
    assert found.returncode > 0


def test_a_file_of_queries_goes_with_no_other_query(sceneseek: CommandLine) -> None:
    for more in (["a dog"], ["--image", "x.jpg"]):
        assert_one_line(sceneseek("search", "--queries", "-", *more), "cannot be used with QUERY or --image", code=2)


def test_skipped_files_are_named_on_one_line_each(sceneseek: CommandLine, tmp_path: Path) -> None:
    photos = draw_gallery(tmp_path / "photos")
    (photos / "not\na picture.jpg").write_text("words")
    outcome = sceneseek("index", photos, "--index", f"file:{tmp_path}/index")
    assert outcome.returncode == 0
    assert r"  skipped not\na picture.jpg: not an image of a known format" in outcome.stdout


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "the query is empty"),
        ("  \t ", "the query is empty"),
        ("word " * 10_000, "50,000 characters"),
        ("a\x1bdog", "U+001B"),
    ],
)
def test_queries_that_cannot_be_searched(sceneseek: CommandLine, query: str, said: str) -> None:
    assert_one_line(sceneseek("search", query), said, code=2)


@pytest.mark.parametrize("k", ["0", "-1", "10000", "five", "2.5"])
def test_an_invalid_k_is_a_usage_error(sceneseek: CommandLine, k: str) -> None:
    assert_one_line(sceneseek("search", "a dog", "-k", k), "-k", code=2)


def test_folders_that_cannot_be_indexed(sceneseek: CommandLine, tmp_path: Path) -> None:
    for name in ("empty", "texts", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts/a.txt").write_text("words")
    (tmp_path / "broken/a.jpg").write_text("words")
    index = f"file:{tmp_path}/index"
    for folder, said in [
        ("nowhere", "there is no folder"),
        ("empty", "is empty"),
        ("texts", "contains no images"),
        ("texts/a.txt", "is not a folder"),
    ]:
        assert_one_line(sceneseek("index", tmp_path / folder, "--index", index), said)
    assert not (tmp_path / "index").exists()
    outcome = sceneseek("index", tmp_path / "broken", "--index", index)
    assert outcome.returncode == 1
    assert "none of the 1 images" in outcome.stderr.splitlines()[-1]


def test_a_bundle_that_is_missing_or_changed(sceneseek: CommandLine, bundle: Bundle, tmp_path: Path) -> None:
    assert_one_line(sceneseek("search", "a dog", "--bundle", tmp_path), "no bundle at", "sceneseek export")
    changed = tmp_path / "bundle"
    for name in (*bundle.manifest.files, "manifest.json"):
        shutil.copytree(bundle.path, changed, dirs_exist_ok=True)
        content = bytearray((changed / name).read_bytes())
        content[len(content) // 2] ^= 1
        (changed / name).write_bytes(content)
        assert_one_line(sceneseek("search", "a dog", "--bundle", changed), name, "sceneseek export")


def test_verify_reads_every_file_of_a_bundle(sceneseek: CommandLine, bundle: Bundle, tmp_path: Path) -> None:
    found = sceneseek("verify")
    assert found.returncode == 0, found.stderr
    assert f"{bundle.path} is intact: compact {bundle.manifest.fingerprints.bundle[:12]}" in found.stdout
    changed = Path(shutil.copytree(bundle.path, tmp_path / "changed"))
    with (changed / "image.onnx").open("r+b") as file:
        file.write(b"?")
    assert_one_line(sceneseek("verify", "--bundle", changed), "image.onnx is not the file that was exported")


def test_an_index_that_is_missing_of_another_bundle_or_held(
    sceneseek: CommandLine, index_url: str, tmp_path: Path
) -> None:
    assert_one_line(
        sceneseek("search", "a dog", "--index", f"file:{tmp_path}"), "nothing is indexed", "sceneseek index"
    )
    assert_one_line(sceneseek("search", "a dog", "--index", "http:/x"), "names no index", code=2)

    other = tmp_path / "other"
    shutil.copytree(index_url.removeprefix("file:"), other)
    for file in (other / "generations").glob("*/generation.json"):
        info = json.loads(file.read_text())
        file.write_text(json.dumps({**info, "image_fingerprint": "0" * 64}))
    assert_one_line(
        sceneseek("search", "a dog", "--index", f"file:{other}"), "another image graph", "index the folder again"
    )

    program = (
        "import sys, time; from sceneseek.store import open_store; s = open_store(sys.argv[1]);"
        "c = s.open(s.live()); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, index_url], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert_one_line(sceneseek("search", "a dog"), f"held by process {holder.pid}", "sceneseek serve")
        holder.kill()


def test_hints_name_the_demos_index_where_it_exists(
    sceneseek: CommandLine, index_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCENESEEK_INDEX")
    said = "nothing is indexed in file:index: run `sceneseek index DIR --bundle "
    assert_one_line(sceneseek("search", "a cat"), said)
    shutil.copytree(index_url.removeprefix("file:"), ".cache/demo-index")
    option = "--index file:.cache/demo-index"
    assert_one_line(sceneseek("search", "a cat"), said, f", or add `{option}` to use the existing one")
    led = sceneseek()
    assert led.returncode == 0
    assert led.stdout.startswith("Usage: sceneseek ")
    command = re.search(rf"`(sceneseek search .* {option})`", led.stdout)
    assert command is not None
    found = sceneseek(*shlex.split(command[1])[1:])
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(" 1  ")


@pytest.mark.parametrize("group", ["evaluate", "keys", "train"])
def test_a_group_without_a_command_shows_its_help(sceneseek: CommandLine, group: str) -> None:
    shown = sceneseek(group)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"Usage: sceneseek {group} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in shown.stderr


def test_a_device_that_is_not_there_is_an_error_and_no_silent_fallback(sceneseek: CommandLine) -> None:
    assert_one_line(sceneseek("search", "a dog", "--device", "cuda"), "CUDA was asked for", "gpu")


def test_an_unknown_pack_lists_the_known_ones(sceneseek: CommandLine, tmp_path: Path) -> None:
    assert_one_line(sceneseek("export", "--pack", "tiny", "--out", tmp_path / "b"), "'tiny'", "compact", code=2)
    assert not (tmp_path / "b").exists()


def test_export_does_not_replace_what_is_not_a_bundle(sceneseek: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    assert_one_line(sceneseek("export", "--out", tmp_path), "not a bundle")
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_help_names_every_command_and_every_option_is_explained(sceneseek: CommandLine) -> None:
    listing = sceneseek("--help").stdout
    for command in ("evaluate", "export", "index", "search", "serve", "train"):
        assert f"\n  {command} " in listing
        assert sceneseek(command, "--help").returncode == 0


def test_a_reader_that_closes_early_is_no_error_report(index_url: str) -> None:
    program = Path(sys.executable).with_name("sceneseek")
    pipe = subprocess.run(
        ["bash", "-c", f"'{program}' search 'a dog' --json | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert pipe.stdout == "{\n"
    assert "Traceback" not in pipe.stderr
