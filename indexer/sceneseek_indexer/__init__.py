"""A folder of images -> vectors -> a generation of the index. Knows nothing of the server."""
