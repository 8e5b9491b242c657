"""The command line and the service over pictures in a bucket, without leaking its credentials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sceneseek.bundle import Bundle
from sceneseek.payload import point_id
from tests.command_line import CommandLine
from tests.object_store import KEY_ID, SECRET, Bucket
from tests.running import running


def test_bucket_is_indexed_searched_copied_and_served_without_leaking_credentials(
    sceneseek: CommandLine,
    bucket: Bucket,
    gallery: Path,
    bundle: Bundle,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bucket.put_folder(gallery, "photos")
    url, index = f"s3://{bucket.name}/photos", f"file:{tmp_path}/index"
    where = ("--bundle", bundle.path, "--index", index)
    done = [sceneseek.process("--debug", "index", url, *where, "--json", "--report", tmp_path / "report.jsonl")]
    assert json.loads(done[0].stdout)["indexed"] == 12
    search = ("search", "the sea", *where, "-k", "3")

    done.append(sceneseek(*search, "--paths"))
    names = [line.removeprefix(f"{url}/") for line in done[-1].stdout.splitlines()]
    assert len(names) == 3
    done.append(sceneseek(*search, "--copy-to", tmp_path / "copies"))
    for name in names:
        assert (tmp_path / "copies" / Path(name).name).read_bytes() == (gallery / name).read_bytes()
    for refused in (("--link-to", tmp_path / "links"), ("--open",)):
        done.append(sceneseek(*search, *refused))
        assert done[-1].returncode == 1
        assert done[-1].stderr.endswith("is in an object store: copy the files with --copy-to\n")

    bucket.refused = lambda what: what.startswith("LIST")
    done.append(sceneseek.process("--debug", "index", url, *where))
    assert f"{url} cannot be listed (the object store answered 500)" in done[-1].stderr
    bucket.refused = lambda what: what.endswith("sunset.jpg")
    with running(*where, "--show-paths") as service:
        status, headers, body = service.get(f"/v1/images/{point_id('scenes/sea.jpg')}")
        assert (status, headers["Content-Type"], body) == (200, "image/jpeg", (gallery / "scenes/sea.jpg").read_bytes())
        away = service.get(f"/v1/images/{point_id('scenes/sunset.jpg')}/thumbnail")
        assert away[0] == 503
        responses = f"{service.ready()} {away[2]!r}"
    done.append(sceneseek("index", "status", "--index", index, "--json"))
    assert url in done[-1].stdout

    out, err = capfd.readouterr()
    texts = [responses, out, err, *(text for each in done for text in (each.stdout, each.stderr))]
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(bucket.name.encode() in content for content in files)
    for secret in (KEY_ID, SECRET):
        assert not [text for text in texts if secret in text]
        assert not [content for content in files if secret.encode() in content]
