"""sceneseek: text-to-image search with a score learned from human ratings.

This package is the library that every room stands on: manifests and bundles, preparing images and
texts, the three graphs at run time, the vector store, the search pipeline. It knows nothing of Flask
and imports neither torch nor transformers.
"""

__version__ = "0.1.0"
