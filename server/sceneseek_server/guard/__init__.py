"""Who may ask, how much, from where, and what an answer may tell: the door of the application.

One call, `guard(app, settings)`, puts it before every view. Each request passes, in this order:

    hosts         is it addressed to us, by a name that is ours?            421
    origins       did another web site's page send it?                      403
    keys          does it come with one of the keys that are live?          401
    rates         has its sender asked too much?                            429

`/healthz` and `/readyz` pass without, so that whatever starts and balances services need not know a key; they tell
no secrets. So does what comes by a listener that marks its requests with `LET_IN` (`metrics_port`). What
bodies may weigh is set here too, and whether answers may name files (`paths`).
"""

from sceneseek_server.guard.gate import LET_IN, charge, guard, guard_problem
from sceneseek_server.guard.settings import Guard

__all__ = ["LET_IN", "Guard", "charge", "guard", "guard_problem"]
