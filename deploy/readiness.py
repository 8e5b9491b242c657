"""Asks the service beside which it runs whether it is ready, waits a while for it, and prints the answer for a person.

`make up` hands it to the service's container on standard input. It ends with 0 if the service answers, ready or not.
"""

import http.client
import json
import os
import sys
import time

# Seconds that a service with an index may take to open it.
patience = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
deadline = time.monotonic() + patience
while True:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["SCENESEEK_PORT"]), timeout=10)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        document = json.load(answer)
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(f"the service does not answer ({error}): see its log") from None
    if answer.status == 200 or time.monotonic() >= deadline:
        break
    time.sleep(0.5)
if answer.status == 200:
    print(f"ready: {document['images']:,} images are searched")  # noqa: T201 - for a person
else:
    print(f"the service runs and is not ready: {document['detail']}")  # noqa: T201
    print("if nothing is indexed yet: make reindex IMAGES=/path/to/photos; it becomes ready by itself")  # noqa: T201
