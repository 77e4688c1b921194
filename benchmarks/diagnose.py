"""How often `diagnose` names the right cause: simulated frames of 17 causes, ten each.

python benchmarks/diagnose.py [--frames N] [--only CAUSE,...]

Right is a frame of which the first finding is the cause, or, where the frame solves all the same,
no certain finding. Wrong and certain is a remedy for another cause.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from causes import CAUSES, Sky

from boresight import diagnose


def main() -> None:
    """Print a line for each cause."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    only = asked.only.split(",") if asked.only else [cause.__name__ for cause in CAUSES]
    totals = np.zeros(4, int)
    for cause in CAUSES:
        if cause.__name__ not in only:
            continue
        right = solved = certain = 0
        others: list[str] = []
        seconds = []
        for number in range(asked.frames):
            spoilt = cause(Sky(1000 * CAUSES.index(cause) + number))
            start = time.perf_counter()
            found = diagnose(spoilt.image, **spoilt.arguments)
            seconds.append(time.perf_counter() - start)
            named = [finding.cause for finding in found.findings]
            if named and named[0] in spoilt.causes:
                right += 1
            elif found.solution is not None:
                solved += 1
            else:
                others.append(named[0] if named else "nothing")
            if found.remedy is not None and found.remedy.cause not in spoilt.causes:
                certain += 1
        totals += (right, solved, certain, asked.frames)
        print(
            f"{cause.__name__:14s} right {right:3d}  solved all the same {solved:3d}  wrong and "
            f"certain {certain:3d}  of {asked.frames}, {np.median(seconds):5.1f} s (median), "
            f"{max(seconds):5.1f} s  {' '.join(others)}",
            flush=True,
        )
    print(
        f"right or solved {(totals[0] + totals[1]) / totals[3]:.1%}, wrong and certain {totals[2]}"
    )


if __name__ == "__main__":
    main()
