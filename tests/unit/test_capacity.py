"""The limit of open files determines how many connections and threads a worker may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sceneseek.errors import StartError
from sceneseek_server.service import Capacity, ServiceSettings, picture_slots


@pytest.mark.parametrize("handles", [360, 512, 1_000, 1_024, 1_128, 2_000, 4_096, 20_000, 65_536, 2**20])
def test_connections_and_threads_fit_into_file_descriptor_limit(handles: int) -> None:
    settings = ServiceSettings(Path("bundle"), "file:index")
    capacity = Capacity.of(settings, handles)
    assert capacity.connections + capacity.threads + 192 <= handles
    assert capacity.connections > capacity.threads, "idle connections must not block requests"
    working = settings.http_threads + picture_slots(settings.http_threads)
    assert working + 2 * capacity.queue < capacity.threads, "some threads reject requests and report health"
    assert capacity.queue == settings.queue or handles < 1_128


def test_too_few_file_descriptors_raise_start_error_with_required_number() -> None:
    with pytest.raises(StartError, match=r"may open 256 files, too few for 32 HTTP threads: allow 360 \(ulimit -n\)"):
        Capacity.of(ServiceSettings(Path("bundle"), "file:index"), 256)
    assert Capacity.of(ServiceSettings(Path("bundle"), "file:index", http_threads=4), 256).threads >= 5
