"""Which joint space is meant: by a pack's name, by a bundle, or by an alignment's directory."""

from __future__ import annotations

from pathlib import Path

from export.bundle import shipped_alignment
from sceneseek.alignment import Alignment
from sceneseek.bundle import Bundle
from sceneseek.errors import DataError
from sceneseek.packs import Pack, find_pack


def find_space(pack_name: str, bundle: Path | None, directory: Path | None) -> tuple[Pack, Alignment]:
    """The pack and its joint space.

    A bundle holds its joint space inside its graphs, so the alignment that it was exported with is looked for
    and compared by its fingerprint.

    Args:
        pack_name: a pack; not looked at beside a bundle.
        bundle: a bundle's directory, or None.
        directory: an alignment's directory; None takes the one that comes with the pack.

    Raises:
        DataError: the alignment is another pack's, or not the one in the bundle.
        InvalidRequest, ExportError, BundleError: there is no such pack, alignment or bundle.
    """
    manifest = Bundle.load(bundle).manifest if bundle else None
    pack = find_pack(manifest.pack if manifest else pack_name)
    alignment = Alignment.load(directory or shipped_alignment(pack))
    if alignment.pack != pack.name:
        raise DataError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass the one that was trained for it with --alignment",
        )
    if manifest and manifest.alignment.get("fingerprint") != alignment.fingerprint:
        raise DataError(
            f"{bundle} was exported with another alignment ({str(manifest.alignment.get('fingerprint'))[:12]}, "
            f"this one is {alignment.fingerprint[:12]})",
            "pass the one it was exported with by --alignment",
        )
    return pack, alignment
