"""Graphs run by ONNX Runtime: which device a graph runs on, proved rather than hoped for."""

from sceneseek.runtime.installation import runtime_version
from sceneseek.runtime.opening import open_session
from sceneseek.runtime.placement import Device, Placement
from sceneseek.runtime.session import Session

__all__ = ["Device", "Placement", "Session", "open_session", "runtime_version"]
