"""The settings of a Qdrant server and its collections, read once into a frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from sceneseek.errors import InvalidRequest

Quantization: TypeAlias = Literal["none", "int8"]
Transport: TypeAlias = Literal["auto", "yes", "no"]
_PREFIX = "SCENESEEK_QDRANT_"
# Seconds; enough that no search fails while a supervisor restarts a killed server.
_SEARCH_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class QdrantSettings:
    """The settings, read from environment variables: `SCENESEEK_QDRANT_` and the name in capitals.

    Attributes:
        api_key: sent with every request; masked in the repr.
        alias: the alias that points at the live generation. Collection names contain it, so that several indexes can
            share a server.
        prefer_grpc: ``auto`` uses gRPC if its port answers, ``yes`` requires it, ``no`` uses HTTP.
        grpc_port: 0 means 6334 if the port of the URL is 6333, and no gRPC otherwise.
        ca_cert: a file of PEM certificates to trust instead of the system's.
        timeout: seconds for one request of a run that writes. The first write to a new collection hangs some 50 s on a
            cluster that has not yet detected a dead node. For searches see `query_timeout`.
        patience: seconds for which a run that writes retries if the server is down or overloaded.
        shards: of a new collection; 0 for the server's default.
        replicas: copies of each shard; 0 for the server's default.
        write_consistency: copies that must confirm a write; 0 for the server's default.
        quantization: ``int8`` stores one byte per dimension in memory and rescores with the full vectors.
        query_timeout: seconds for one request of a process that searches; a retry has the same timeout.
    """

    api_key: str | None = field(default=None, repr=False)
    alias: str = "images"
    prefer_grpc: Transport = "auto"
    grpc_port: int = 0
    ca_cert: Path | None = None
    timeout: int = 120
    patience: float = 600.0
    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0
    quantization: Quantization = "none"
    query_timeout: int = 2

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'***' if name == 'api_key' and value else repr(value)}"
            for name, value in ((name, getattr(self, name)) for name in self.__slots__)
        )
        return f"QdrantSettings({shown})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> QdrantSettings:
        """Read the settings; empty variables count as unset.

        Raises:
            InvalidRequest: a value is invalid; the message names the variable.
        """
        given = {
            name.removeprefix(_PREFIX): value.strip()
            for name, value in (os.environ if environment is None else environment).items()
            if name.startswith(_PREFIX) and value.strip()
        }
        default = cls()
        if unknown := sorted(given.keys() - {name.upper() for name in cls.__slots__}):
            raise InvalidRequest(
                f"{_PREFIX}{unknown[0]} is not a setting",
                f"the settings are {', '.join(name.upper() for name in cls.__slots__)}",
            )
        alias = given.get("ALIAS", default.alias)
        if not alias.isascii() or not alias.replace("-", "").replace("_", "").isalnum():
            raise InvalidRequest(f"{_PREFIX}ALIAS is {alias!r}", "use letters, digits, - and _")
        ca_cert = Path(given["CA_CERT"]) if "CA_CERT" in given else None
        if ca_cert is not None and not ca_cert.is_file():
            raise InvalidRequest(f"{_PREFIX}CA_CERT is {ca_cert}, which is not a file", "set it to a PEM file")
        return cls(
            api_key=given.get("API_KEY"),
            alias=alias,
            prefer_grpc=cast(Transport, _choice(given, "PREFER_GRPC", default.prefer_grpc, get_args(Transport))),
            grpc_port=_whole(given, "GRPC_PORT", 0, 65_535, default.grpc_port),
            ca_cert=ca_cert,
            timeout=_whole(given, "TIMEOUT", 1, 3_600, default.timeout),
            patience=_whole(given, "PATIENCE", 0, 86_400, int(default.patience)),
            shards=_whole(given, "SHARDS", 0, 10_000, 0),
            replicas=_whole(given, "REPLICAS", 0, 100, 0),
            write_consistency=_whole(given, "WRITE_CONSISTENCY", 0, 100, 0),
            quantization=cast(
                Quantization, _choice(given, "QUANTIZATION", default.quantization, get_args(Quantization))
            ),
            query_timeout=_whole(given, "QUERY_TIMEOUT", 1, 60, default.query_timeout),
        )

    def for_searching(self) -> QdrantSettings:
        """A copy for a process that searches, with short retries.

        It uses HTTP only: a gRPC channel that has lost its server backs off before it reconnects.
        """
        return replace(self, prefer_grpc="no", timeout=self.query_timeout, patience=_SEARCH_PATIENCE)


def _choice(given: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = given.get(name, default).lower()
    value = {"1": "yes", "true": "yes", "0": "no", "false": "no"}.get(value, value)
    if value not in choices:
        raise InvalidRequest(f"{_PREFIX}{name} is {given[name]!r}", f"use one of {', '.join(choices)}")
    return value


def _whole(given: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most and len(text) <= 12):
        raise InvalidRequest(f"{_PREFIX}{name} is {text!r}", f"use a whole number from {least:,} to {most:,}")
    return int(text)
