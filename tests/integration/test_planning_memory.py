"""Memory use of planning an index run does not grow with the number of images."""

from __future__ import annotations

import json
import subprocess
import sys

# Out of a million images, 1% have a new mtime, 1% were renamed and 1% are new. Memory is the VmHWM of the child;
# `getrusage` would include the peak of its parent.
PLANNING = """
import collections, json, uuid
from pathlib import Path
from sceneseek_indexer.inventory import Known, open_inventory
from sceneseek_indexer.report import IndexReport, opening_lines
from sceneseek_indexer.sync_plan import files_to_hash, make_plan
from sceneseek_indexer.walk import ImageFile, Listing

MANY, SPREAD, TIME = 1_000_000, 611_953, 1_700_000_000_000_000_000

def path(number, name="IMG"):
    return f"{number // 10_000:04}/album {number // 100 % 100:02}/{name}_{number:08}.jpg"

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

def images():
    for place in range(MANY):
        number = place * SPREAD % MANY  # the index has them in another order
        if number % 100 != 2:
            identity, content = str(uuid.UUID(int=number)), f"{number:064x}"
            yield Known(identity, 0, path(number), number, TIME, content, ctime_ns=TIME)

before = peak()
with open_inventory() as inventory:
    for number in range(MANY):
        name = path(number, "new" if number % 100 == 1 else "IMG")
        inventory.add_file(ImageFile(name, Path("/photos"), number, TIME + (number % 100 == 0), 0, TIME))
    inventory.add_images(images())
    inventory.add_hashes((file, f"{file.bytes:064x}") for file in files_to_hash(inventory))
    plan = make_plan(inventory, {0: Listing()})
    report = IndexReport()
    lines = opening_lines(report, plan, [Listing()], {}, inventory.has)
    collections.deque(lines, maxlen=0)
    outcomes = collections.Counter(reuse.outcome for reuse in plan.reused)
    counts = [report.unchanged, outcomes["touched"], outcomes["renamed"], len(list(plan.encode)), report.gone]
    print(json.dumps({"counts": counts, "bytes": peak() - before}))
"""


def test_planning_a_million_images_needs_less_than_200_mb() -> None:
    completed = subprocess.run(
        [sys.executable, "-c", PLANNING], capture_output=True, text=True, check=True, timeout=280
    )
    result = json.loads(completed.stdout)
    assert result["counts"] == [970_000, 10_000, 10_000, 10_000, 0]
    assert result["bytes"] < 200_000_000
