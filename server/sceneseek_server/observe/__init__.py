"""What an operator sees of the service: metrics, a line for each request, request ids, timings in the answer.

`observe` hooks all of it into an application by one call. What is measured while a request is answered is noted by
whoever knows it: a view calls `record_stages`, the error handlers `note_problem`, and query encoder, thumbnails and
feedback the methods of `Metrics`.
"""

from sceneseek_server.observe.exchange import note_problem, record_stages, request_id
from sceneseek_server.observe.hook import note_refused, observe
from sceneseek_server.observe.metrics import Metrics

__all__ = ["Metrics", "note_problem", "note_refused", "observe", "record_stages", "request_id"]
