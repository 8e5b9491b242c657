"""sceneseek compared with similar programs; see `python -m benchmarks.peers --help`."""
