"""Options that the commands share."""

from __future__ import annotations

import pytest

from kdas.errors import UserError
from sweeps.command.options import another_port, check_port, cluster_address


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_a_port_is_any_that_a_server_can_have(port: int) -> None:
    check_port(port)


@pytest.mark.parametrize(("taken", "tried"), [(5000, 5002), (5001, 5002), (4999, 5002), (8000, 8001), (65535, 5002)])
def test_another_port_is_nobodys_default(taken: int, tried: int) -> None:
    assert another_port(taken) == tried


@pytest.mark.parametrize("port", [-1, 65536, "abc", "", "5 0"])
def test_what_is_not_a_port_is_refused(port: int | str) -> None:
    with pytest.raises(UserError, match=f"PORT={port}: "):
        check_port(port)


def test_a_sweep_runs_on_this_machine_unless_ray_is_told_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address() == ""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert cluster_address() == "head:6379"
