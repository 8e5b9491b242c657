"""Export of a bundle: composes towers, alignment and head into three verified graphs with a manifest.

May import torch and transformers; the server and the indexer never import this package.
"""
