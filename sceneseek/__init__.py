"""sceneseek: text-to-image search with a score learned from human ratings.

This package is the library that every room stands on: manifests and bundles, preparing images and
texts, the three graphs at run time, the vector store, the search pipeline. It knows nothing of Flask
and imports neither torch nor transformers.
"""

import os

# ONNX Runtime reports its use to its makers, from 1.32 on Linux too, and reads this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
