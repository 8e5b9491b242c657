"""Towers, alignment and head -> a bundle: the three graphs, verified, with their manifest.

May import torch and transformers; nothing that serves or indexes imports this package.
"""
