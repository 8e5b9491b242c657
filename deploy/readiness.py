"""Wait a while for the local service to become ready, and print its state.

`make up` runs it in the service's container, from standard input. The exit code is 0 if the service responds, ready or
not.
"""

import http.client
import json
import os
import sys
import time

# Seconds that the service may take to open its index.
timeout = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
deadline = time.monotonic() + timeout
while True:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["SCENESEEK_PORT"]), timeout=10)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        document = json.load(response)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not JSON, so not the service
        raise SystemExit(f"the service does not answer ({error}): see its log") from None
    if response.status == 200 or time.monotonic() >= deadline:
        break
    time.sleep(0.5)
if response.status == 200:
    print(f"ready: {document['images']:,} images can be searched")  # noqa: T201 - output of a script
else:
    print(f"the service is running but not ready: {document['detail']}")  # noqa: T201
    print("if nothing is indexed yet: make reindex IMAGES=/path/to/photos; the service then becomes ready by itself")  # noqa: T201
