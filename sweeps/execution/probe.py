"""Asks a cluster's head whether this machine may join, before anything else is done.

Ray itself would try for over a minute and then blame the wrong thing. Its client would also end our process if it has
no token, and print warnings. So the question is asked in a process of its own. This module does not import Ray in ours.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from kdas.errors import UserError
from sweeps.command.options import cluster_address

# How long the head may take to accept a connection, and then to answer.
_ACCEPTS_WITHIN_S, _ANSWERS_WITHIN_S = 4, 9
# How long a node that was just started on this machine may take to be known to the head.
_KNOWN_WITHIN_S = 5
_JOINS, _NO_HEAD = "joins", "no head"
_START = "ray get-auth-token --generate, then RAY_AUTH_MODE=token ray start --head"
_TO_COPY = (
    "Copy the head's: the file .ray/auth_token in the home folder of its user, or any file that RAY_AUTH_TOKEN_PATH"
    " names, or put it into RAY_AUTH_TOKEN"
)
_REFUSALS = {
    "no node": f"no node of Ray runs on this machine. Start one with: {_START}",
    "open": "it asks for no token, so everybody who reaches it may run code on it. Stop the cluster, and start it with"
    f" one: {_START}. If only you can reach it, set RAY_AUTH_MODE=disabled here",
    "no token": f"this machine has no token for the cluster. {_TO_COPY}. If the head has none, start it with one:"
    f" {_START}",
    "wrong token": f"the cluster refuses this machine's token. {_TO_COPY}",
    "no node of it": "no node of this cluster runs on this machine. Start one:"
    " RAY_AUTH_MODE=token ray start --address=<head> --num-cpus=0",
    _NO_HEAD: "does not answer as the head of a Ray cluster. Give the address that ray start --head printed, and use"
    " the same version of Ray on both machines",
}


def check_joins() -> None:
    """Raises: UserError: if nothing answers, the cluster refuses us, or none of its nodes is on this machine."""
    _check(cluster_address())


@functools.cache
def _check(address: str) -> None:
    if address.startswith("ray://"):
        raise UserError(
            f"CLUSTER={address}: expected the address of the head, host:6379, got an address for Ray's client. Give the"
            " head as host:port."
        )
    if address != "auto":
        _check_port(address)
    ours = {"RAY_AUTH_MODE": "token", **os.environ}
    answer = _answer(address, ours)
    if answer == _JOINS and ours["RAY_AUTH_MODE"] == "token":
        stranger = {key: value for key, value in ours.items() if key != "RAY_AUTH_TOKEN_PATH"}
        stranger["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        answer = "open" if _answer(address, stranger) == _JOINS else answer
    if answer != _JOINS:
        raise UserError(f"CLUSTER={address}: {_REFUSALS[answer].replace('<head>', address)}.")


def _check_port(address: str) -> None:
    """Raises: UserError: if it accepts no connection."""
    host, _, port = address.rpartition(":")
    try:
        target = (host.strip("[]"), int(port) if port.isdigit() else 0)
        socket.create_connection(target, timeout=_ACCEPTS_WITHIN_S).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"CLUSTER={address}: no answer ({reason}). Give the head as host:port. Start one with: {_START}."
        ) from error


def _answer(address: str, variables: Mapping[str, str]) -> str:
    """What the head says: a key of `_REFUSALS`, or that this machine joins. Args: variables: who asks."""
    command = [sys.executable, "-m", __name__, address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables
    ) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()  # until it has imported Ray, which takes a busy machine long
        until_then = threading.Timer(_ANSWERS_WITHIN_S, asking.kill)
        until_then.start()
        said = asking.stdout.readline()
        until_then.cancel()
    return str(json.loads(said)) if said.strip() else _NO_HEAD


def _ask(address: str) -> str:
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._private.services import canonicalize_bootstrap_address, find_node_ids
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError

    print(flush=True)
    try:
        ensure_token_if_auth_enabled(create_token_if_missing=False)
    except AuthenticationError:
        return "no token"
    until = time.monotonic() + _KNOWN_WITHIN_S
    try:
        head: Any = GcsClient(address=canonicalize_bootstrap_address(address))
        while True:
            alive = head.get_all_node_info(timeout=_ANSWERS_WITHIN_S, state_filter=GcsNodeInfo.GcsNodeState.ALIVE)
            # Ray's drivers talk to the node beside them, and find it in this way.
            if {node.hex() for node in alive} & set(find_node_ids()):  # type: ignore[no-untyped-call]
                return _JOINS
            if time.monotonic() > until:
                return "no node of it"
            time.sleep(0.5)
    except ConnectionError:  # without an address to ask
        return "no node"
    except AuthenticationError:
        return "wrong token"


if __name__ == "__main__":
    print(json.dumps(_ask(sys.argv[1])))
