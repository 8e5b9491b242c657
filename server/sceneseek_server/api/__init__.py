"""The operations of `/v1`, and their OpenAPI document.

Each view declares the models of its request and its response with `operation`. The same models validate requests and
generate the OpenAPI document, so that the two agree.
"""
