"""Measure the quality of a bundle's results, with its graphs and a real index. Does not import torch."""
