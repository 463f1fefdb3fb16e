"""A cluster that cannot be joined is refused in one line, before anything is loaded."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.execution import probe


def test_a_port_that_is_not_a_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 32)
    monkeypatch.setattr(probe, "_ANSWERS_WITHIN_S", 0.1)  # it never answers
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError, match=rf"CLUSTER={address}: does not answer as the head of a Ray cluster\. Give"):
            probe.check_joins()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "got an address for Ray's client"),
        ("127.0.0.1:1", "no answer \\(Connection refused\\)"),
        ("127.0.0.1", "no answer"),
    ],
)
def test_an_address_without_a_head_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"CLUSTER={address}: .*{said}"):
        probe.check_joins()


def test_a_machine_without_a_token_is_told_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(
            UserError, match=r"has no token for the cluster\. Copy the head's: the file \.ray/auth_toke"
        ):
            probe.check_joins()
