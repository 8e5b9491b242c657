"""The operations of `/v1`, and their description.

Each view declares itself with `operation`: the models that it reads and the documents that it answers with. The models
check requests, and the OpenAPI document is made from them, so neither can say what the other does not.
"""
