"""sceneseek: text-to-image search with a score learned from human ratings.

This package is the library that all roles share: bundles, preparing images and texts, the three graphs at run time, the
vector store, the search pipeline, the client. It imports neither Flask nor torch.
"""

import os

# ONNX Runtime reports its use to its makers, from 1.32 on Linux too, and reads this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
