"""The service: search over HTTP, the images, health, and the search page.

It stands on `sceneseek` and knows nothing of how bundles are made or folders indexed.
"""
