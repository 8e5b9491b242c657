"""Which joint space is meant: by a pack, by a bundle, or by an alignment's directory."""

from __future__ import annotations

from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.errors import DataError
from sceneseek_export.alignment import Alignment
from sceneseek_export.packs import Pack, find_pack
from sceneseek_export.towers import Towers
from sceneseek_export.trained import own_space, shipped_alignment


def find_pack_of(bundle: Path | None, pack_name: str) -> Pack:
    """The pack of that name or file; beside a bundle, the one that it was made of.

    Raises:
        InvalidRequest, BundleError, DataError: there is no such pack or bundle.
    """
    if bundle is None or pack_name.endswith(".toml"):  # a pack of the user's own is not known by the name in a bundle
        return find_pack(pack_name)
    return find_pack(Bundle.load(bundle).manifest.pack)


def check_space(pack: Pack, directory: Path | None) -> None:
    """Say at once, before towers are loaded, whether a joint space must be learned first.

    Raises:
        ExportError: it must.
    """
    if pack.joint_space is None and directory is None:
        shipped_alignment(pack)


def find_space(pack: Pack, towers: Towers, bundle: Path | None, directory: Path | None) -> Alignment:
    """The pack's joint space.

    A bundle holds its joint space inside its graphs, so the alignment that it was exported with is looked for
    and compared by its fingerprint.

    Args:
        pack: the recipe.
        towers: what it loaded.
        bundle: a bundle's directory, or None.
        directory: an alignment's directory; None takes the one that comes with the pack, or the towers' own space.

    Raises:
        DataError: the alignment is another pack's, or not the one in the bundle.
        ExportError: there is none.
    """
    if directory is None and pack.joint_space is not None:
        alignment = own_space(pack, towers)
    else:
        alignment = Alignment.load(directory or shipped_alignment(pack))
    if alignment.pack != pack.name:
        raise DataError(
            f"the alignment was trained for the pack {alignment.pack!r}, not for {pack.name!r}",
            "pass the one that was trained for it with --alignment",
        )
    if bundle is not None:
        check_exported_with(Bundle.load(bundle), alignment)
    return alignment


def check_exported_with(bundle: Bundle, alignment: Alignment) -> None:
    """Refuse another joint space than that inside a bundle.

    Raises:
        DataError: it is another.
    """
    fingerprint = str(bundle.manifest.alignment.get("fingerprint"))
    if fingerprint != alignment.fingerprint:
        raise DataError(
            f"{bundle.path} was exported with another alignment ({fingerprint[:12]}, "
            f"this one is {alignment.fingerprint[:12]})",
            "pass the one it was exported with by --alignment",
        )
