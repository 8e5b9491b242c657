"""Access control: host names, origins, API keys, rate limits, and what responses may reveal.

`control` checks every request before its view; `keys`, `origins` and `rates` implement the rules.
"""
