"""The command line end to end: real processes, real files, one-line error messages."""

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
def environment(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run each command in an empty directory, with bundle and index set by environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCENESEEK_BUNDLE", str(bundle.path))
        patch.setenv("SCENESEEK_INDEX", index_url)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


def assert_one_line(outcome: subprocess.CompletedProcess[str], *expected: str, code: int = 1) -> None:
    assert outcome.returncode == code, outcome.stderr
    assert outcome.stdout == ""
    message = outcome.stderr.strip().splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert message.lower().startswith("error: ")
    for words in expected:
        assert words in message
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_second_index_run_reports_images_as_unchanged(sceneseek: CommandLine, tmp_path: Path) -> None:
    photos, index = draw_gallery(tmp_path / "my photos"), f"file:{tmp_path}/index"
    first = sceneseek.process("index", photos, "--index", index)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"indexed {len(NAMES)}, unchanged 0, skipped 0\n")
    assert f"indexing: {len(NAMES)} of {len(NAMES)} images" in first.stderr

    outcome = sceneseek.process("search", "a red circle", "-k", "3", "--index", index)
    assert outcome.returncode == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in lines)
    assert all(line.split(maxsplit=2)[2] in NAMES for line in lines)

    again = json.loads(sceneseek("index", photos, "--index", index, "--json").stdout)
    assert (again["indexed"], again["unchanged"], again["skipped"]) == (0, len(NAMES), [])
    assert set(again["seconds"]) == {"load", "encode", "upsert", "optimise", "compare", "total"}


def test_search_where_filters_results_and_rejects_invalid_condition(sceneseek: CommandLine) -> None:
    outcome = sceneseek("search", "the sea", "-k", "12", "--where", "path^=scenes/", "--where", "format=JPEG")
    assert outcome.returncode == 0, outcome.stderr
    assert {line.split(maxsplit=2)[2] for line in outcome.stdout.splitlines()} == {
        name for name in NAMES if name.startswith("scenes/") and name.endswith(".jpg")
    }
    assert_one_line(sceneseek("search", "the sea", "--where", "format"), "'format' has no comparison", code=2)


def test_index_move_copies_index_to_qdrant_server(sceneseek: CommandLine, index_url: str) -> None:
    with PlayedQdrant().serving() as played:
        moved = sceneseek("index", "move", index_url, played.url, SCENESEEK_QDRANT_PREFER_GRPC="no")
        assert moved.returncode == 0, moved.stderr
        assert moved.stdout.startswith(f"moved {len(NAMES)}, unchanged 0, from {index_url} to {played.url}\n")
        here, there = (sceneseek("search", "a red circle", SCENESEEK_INDEX=url) for url in (index_url, played.url))
        assert there.returncode == 0, there.stderr
        assert there.stdout == here.stdout
    assert_one_line(sceneseek("search", "a red circle", SCENESEEK_INDEX=played.url), "no Qdrant server answers")


def test_index_subcommand_without_arguments_is_usage_error(sceneseek: CommandLine, index_url: str) -> None:
    for form in ((), ("watch",)):
        assert_one_line(sceneseek("index", *form), "Missing argument 'FOLDER...'", code=2)
    assert_one_line(sceneseek("index", "move", index_url), "Missing argument 'TO'", code=2)
    assert_one_line(sceneseek("index", "--index", index_url, "status"), "right after `sceneseek index`", code=2)


def test_search_paths_prints_absolute_paths_separated_by_newline_or_nul(sceneseek: CommandLine, gallery: Path) -> None:
    listed = [line.split(maxsplit=2)[2] for line in sceneseek("search", "the sea", "-k", "3").stdout.splitlines()]
    outcome = sceneseek("search", "the sea", "-k", "3", "--paths")
    assert [Path(path) for path in outcome.stdout.splitlines()] == [gallery / name for name in listed]
    null_separated = sceneseek.process("search", "the sea", "-k", "3", "--paths", "-0")
    assert null_separated.stdout == "".join(f"{gallery / name}\0" for name in listed)
    for wrong in (["-0"], ["--paths", "--json"], ["--link-to", "x", "--url", "http://127.0.0.1:9"]):
        assert_one_line(sceneseek("search", "the sea", *wrong), code=2)


def test_search_copy_to_and_link_to_never_overwrite_files(
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
    # Without paths from the service, copies are named by image id.
    sceneseek("search", "the sea", "-k", "3", "--copy-to", tmp_path / "sent", "--url", service_url)
    sent = {file.read_bytes() for file in (tmp_path / "sent").iterdir()}
    assert sent == {(gallery / name).read_bytes() for name in names}
    assert "hides the paths" in sceneseek("search", "the sea", "--paths", "--url", service_url).stderr
    (tmp_path / "file").touch()
    failed = sceneseek("search", "the sea", "--copy-to", tmp_path / "file")
    assert failed.returncode == 1
    assert "cannot be written or read (File exists)" in failed.stderr


def test_search_preview_draws_thumbnails_only_on_terminal(sceneseek: CommandLine) -> None:
    pytest.importorskip("textual_image", reason="textual-image is not installed (the extra preview has it)")
    plain = sceneseek.process("search", "the sea", "-k", "2")
    assert sceneseek.process("search", "the sea", "-k", "2", "--preview").stdout == plain.stdout
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 800, 1_000))
    command = [str(Path(sys.executable).with_name("sceneseek")), "search", "the sea", "-k", "2", "--preview"]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # reading fails once the command closes the terminal
            while part := os.read(controller, 65_536):
                shown += part
        assert process.wait(60) == 0
    os.close(controller)
    # This terminal answers no capability query, so each character cell shows two pixels.
    assert shown.count("▀".encode()) > 100
    assert all(line.encode() in shown for line in plain.stdout.splitlines())


def test_search_plus_and_minus_accept_text_files_and_ids(sceneseek: CommandLine, gallery: Path) -> None:
    sea = json.loads(sceneseek("search", "the sea", "-k", "1", "--json").stdout)["results"][0]["id"]
    answer = json.loads(sceneseek("search", "a drawing", "--plus", "the sea:0.5", "--minus", sea, "--json").stdout)
    assert answer["query"] == "a drawing, the sea:0.5"
    assert sea not in [result["id"] for result in answer["results"]]
    command = ("search", "a drawing", "-k", "3", "--plus", f"{gallery / 'scenes/sea.jpg'}:0.9")
    first = json.loads(sceneseek(*command, "--json").stdout)["results"][0]
    assert first["path"] == "scenes/sea.jpg"
    printed = sceneseek(*command).stdout.splitlines()[0]
    assert printed == f" 1  {first['similarity']:.2f}  scenes/sea.jpg", "results are sorted by similarity"
    plus_only = sceneseek("search", "--plus", "the sea").stdout
    assert plus_only == sceneseek("search", "the sea").stdout
    assert_one_line(sceneseek("search", "--minus", "the sea"), "neither QUERY nor --image nor --plus", code=2)


def test_search_json_output(sceneseek: CommandLine) -> None:
    answer = json.loads(sceneseek("search", "the sea", "--json").stdout)
    assert answer["query"] == "the sea"
    assert len(answer["results"]) == 5
    assert {"rank", "id", "score", "similarity", "path", "metadata"} <= set(answer["results"][0])
    assert answer["timings_ms"]["total"] > 0


def test_search_queries_runs_one_search_per_line(sceneseek: CommandLine, service_url: str, tmp_path: Path) -> None:
    texts = ["the sea", "a red circle", *(f"{number} houses" for number in range(40))]
    file = tmp_path / "queries.txt"
    file.write_text("\ufeff" + "\n\n".join(f"  {text}" for text in texts), encoding="utf-8")
    alone = sceneseek("search", texts[1], "-k", "2").stdout
    for place in ((), ("--url", service_url, "--timeout", "60")):
        outcome = sceneseek("search", "--queries", file, "-k", "2", *place)
        listings = outcome.stdout.split("\n\n")
        assert [listing.splitlines()[0] for listing in listings] == texts
        if not place:  # the service hides paths
            assert listings[1] + "\n" == f"{texts[1]}\n{alone}"
        answers = sceneseek("search", "--queries", file, "-k", "2", "--json", *place).stdout.splitlines()
        assert [json.loads(answer)["query"] for answer in answers] == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\n \n", "contains no query"),
        (b"caf\xe9", "is not UTF-8"),
        (b"a dog\n" + b"word " * 1_000, "4,999 characters"),
    ],
)
def test_search_queries_rejects_invalid_file(
    sceneseek: CommandLine, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "queries.txt"
    if content is not None:
        file.write_bytes(content)
    outcome = sceneseek("search", "--queries", file)
    assert outcome.stdout == ""
    assert_one_line(outcome, message, code=outcome.returncode)
    assert outcome.returncode > 0


def test_search_queries_excludes_query_and_image_options(sceneseek: CommandLine) -> None:
    for more in (["a dog"], ["--image", "x.jpg"]):
        assert_one_line(sceneseek("search", "--queries", "-", *more), "cannot be used with QUERY or --image", code=2)


def test_index_lists_each_skipped_file_on_one_line(sceneseek: CommandLine, tmp_path: Path) -> None:
    photos = draw_gallery(tmp_path / "photos")
    (photos / "not\na picture.jpg").write_text("words")
    outcome = sceneseek("index", photos, "--index", f"file:{tmp_path}/index")
    assert outcome.returncode == 0
    assert r"  skipped not\na picture.jpg: not an image of a known format" in outcome.stdout


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "the query is empty"),
        ("  \t ", "the query is empty"),
        ("word " * 10_000, "50,000 characters"),
        ("a\x1bdog", "U+001B"),
    ],
)
def test_search_rejects_invalid_query(sceneseek: CommandLine, query: str, message: str) -> None:
    assert_one_line(sceneseek("search", query), message, code=2)


@pytest.mark.parametrize("k", ["0", "-1", "10000", "five", "2.5"])
def test_invalid_k_is_usage_error(sceneseek: CommandLine, k: str) -> None:
    assert_one_line(sceneseek("search", "a dog", "-k", k), "-k", code=2)


def test_index_rejects_folder_without_usable_images(sceneseek: CommandLine, tmp_path: Path) -> None:
    for name in ("empty", "texts", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts/a.txt").write_text("words")
    (tmp_path / "broken/a.jpg").write_text("words")
    index = f"file:{tmp_path}/index"
    for folder, message in [
        ("nowhere", "there is no folder"),
        ("empty", "is empty"),
        ("texts", "contains no images"),
        ("texts/a.txt", "is not a folder"),
    ]:
        assert_one_line(sceneseek("index", tmp_path / folder, "--index", index), message)
    assert not (tmp_path / "index").exists()
    outcome = sceneseek("index", tmp_path / "broken", "--index", index)
    assert outcome.returncode == 1
    assert "none of the 1 images" in outcome.stderr.splitlines()[-1]


def test_search_rejects_missing_or_modified_bundle(sceneseek: CommandLine, bundle: Bundle, tmp_path: Path) -> None:
    assert_one_line(sceneseek("search", "a dog", "--bundle", tmp_path), "no bundle at", "sceneseek export")
    changed = tmp_path / "bundle"
    for name in (*bundle.manifest.files, "manifest.json"):
        shutil.copytree(bundle.path, changed, dirs_exist_ok=True)
        content = bytearray((changed / name).read_bytes())
        content[len(content) // 2] ^= 1
        (changed / name).write_bytes(content)
        assert_one_line(sceneseek("search", "a dog", "--bundle", changed), name, "sceneseek export")


def test_verify_checks_every_bundle_file(sceneseek: CommandLine, bundle: Bundle, tmp_path: Path) -> None:
    found = sceneseek("verify")
    assert found.returncode == 0, found.stderr
    assert f"{bundle.path} is intact: compact {bundle.manifest.fingerprints.bundle[:12]}" in found.stdout
    changed = Path(shutil.copytree(bundle.path, tmp_path / "changed"))
    with (changed / "image.onnx").open("r+b") as file:
        file.write(b"?")
    assert_one_line(sceneseek("verify", "--bundle", changed), "image.onnx is not the file that was exported")


def test_search_rejects_missing_mismatched_or_locked_index(
    sceneseek: CommandLine, index_url: str, tmp_path: Path
) -> None:
    assert_one_line(
        sceneseek("search", "a dog", "--index", f"file:{tmp_path}"), "nothing is indexed", "sceneseek index"
    )
    assert_one_line(sceneseek("search", "a dog", "--index", "http:/x"), "is not the URL of an index", code=2)

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


def test_hints_mention_demo_index_if_it_exists(
    sceneseek: CommandLine, index_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCENESEEK_INDEX")
    said = "nothing is indexed in file:index: run `sceneseek index DIR --bundle "
    assert_one_line(sceneseek("search", "a cat"), said)
    shutil.copytree(index_url.removeprefix("file:"), ".cache/demo-index")
    option = "--index file:.cache/demo-index"
    assert_one_line(sceneseek("search", "a cat"), said, f", or add `{option}` to use the existing one")
    overview = sceneseek()
    assert overview.returncode == 0
    assert overview.stdout.startswith("Usage: sceneseek ")
    command = re.search(rf"`(sceneseek search .* {option})`", overview.stdout)
    assert command is not None
    outcome = sceneseek(*shlex.split(command[1])[1:])
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith(" 1  ")


@pytest.mark.parametrize("group", ["evaluate", "keys", "train"])
def test_command_group_without_subcommand_prints_help(sceneseek: CommandLine, group: str) -> None:
    shown = sceneseek(group)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"Usage: sceneseek {group} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in shown.stderr


def test_unavailable_device_is_error_without_fallback(sceneseek: CommandLine) -> None:
    assert_one_line(sceneseek("search", "a dog", "--device", "cuda"), "CUDA was asked for", "gpu")


def test_export_lists_known_packs_on_unknown_pack(sceneseek: CommandLine, tmp_path: Path) -> None:
    assert_one_line(sceneseek("export", "--pack", "tiny", "--out", tmp_path / "b"), "'tiny'", "compact", code=2)
    assert not (tmp_path / "b").exists()


def test_export_does_not_overwrite_directory_that_is_not_a_bundle(sceneseek: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    assert_one_line(sceneseek("export", "--out", tmp_path), "not a bundle")
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_help_lists_every_command(sceneseek: CommandLine) -> None:
    listing = sceneseek("--help").stdout
    for command in ("evaluate", "export", "index", "search", "serve", "train"):
        assert f"\n  {command} " in listing
        assert sceneseek(command, "--help").returncode == 0


def test_closed_stdout_pipe_causes_no_traceback(index_url: str) -> None:
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
