"""Starts a worker of Ray. Ray's own script for this imports Ray, only to start another Python, which imports it again.

Ray runs this file by its path. It imports nothing of Ray or of this project.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
from collections.abc import Sequence

_RAYS_OWN = "ray._private.workers.setup_worker"


def main(given: Sequence[str]) -> None:
    """Become the worker. Args: given: what Ray gives its own script."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language", default="")
    options, worker = parser.parse_known_args(given)
    if any(json.loads(options.serialized_runtime_env_context).values()):
        # Users may ask Ray for an environment, by its variables. A sweep asks for none.
        runpy.run_module(_RAYS_OWN, run_name="__main__")
    os.execv(sys.executable, [sys.executable, *worker])


if __name__ == "__main__":
    main(sys.argv[1:])
