"""Access control: who may send requests, how many, from where, and what the answers may reveal.

`control` checks every request in front of the views; `keys`, `origins` and `rates` hold the rules it applies.
"""
