"""`python -m benchmarks [NAME …]` runs the named benchmarks, or those of `make bench`, one after the other."""

from __future__ import annotations

import runpy
import sys

BENCHMARKS = ("denoiser", "filling", "busy", "data_path", "clouds", "scaling", "serving", "gpu")


def main() -> int:
    """Runs the benchmarks named on the command line."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown benchmark {unknown[0]}; choose from {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names:
        sys.argv = [f"benchmarks.{name}"]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
