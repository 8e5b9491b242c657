"""The HTTP service: search, images, health, and the search page.

It imports `sceneseek`, but neither the export nor the indexer.
"""
