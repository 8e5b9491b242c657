"""Where a graph runs, and why. It knows the names that ONNX Runtime has for devices, and no session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
# What people call the devices that a provider of ONNX Runtime stands for.
NAMES = {TENSORRT: "TensorRT", CUDA: "CUDA", CPU: "the CPU"}
DEVICES = {TENSORRT: "tensorrt", CUDA: "cuda", CPU: "cpu"}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a session runs.

    Attributes:
        asked: what the user asked for.
        device: ``cpu``, ``cuda`` or ``tensorrt``: where it runs.
        provider: ONNX Runtime's name of it, read back from the session.
        why: one clause for people.
    """

    asked: Device
    device: str
    provider: str
    why: str
