"""The indexer: encodes folders of images into a generation of the index. Does not depend on the server."""
