"""A process that times kernels of whichever fastconv it finds: started by `guard`.

Each line of standard input names a backend, a dtype and a case; the answer is the median
seconds of a turn, or null where this fastconv does not have it.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

from fastconv import selection
from fastconv.errors import BackendUnavailable

from .cases import Call, cases, prepare
from .timing import turn


def serve() -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    known = {str(case): case for case in cases(full=True)}
    latest: dict[str, str] = {}
    call: Call | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request != latest:
            latest, call = request, None  # the memory of one case at a time
            case = known[request["case"]]
            try:
                table = selection.active(request["backend"])
            except BackendUnavailable as error:
                print(error, file=sys.stderr)
            else:
                inputs = case.inputs(np.random.default_rng(0))
                if hasattr(table, case.kernel):
                    call = prepare(case, table, request["dtype"], inputs)
                    call()
        seconds = None if call is None else turn(call, seconds=0.03)
        answers.write(json.dumps({"seconds": seconds}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
