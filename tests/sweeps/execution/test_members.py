"""Machines of a cluster come and go while a sweep runs. Ray's answers are given here; `tests/deploy` has real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kdas.compute.device import hardware_name
from kdas.errors import UserError
from sweeps.engine.slots import Slots
from sweeps.execution import cluster
from sweeps.execution.cluster import Members
from sweeps.execution.node_report import Needs, Report

NEEDS = Needs("/shared/runs/x", "/shared/runs/x/.lock", (), "cpu", "kdas 1")
FIT = Report("", hardware_name("cpu"))


def id_of(name: str) -> str:
    """As Ray makes them: 28 bytes."""
    return name.encode().hex().ljust(56, "0")


class Nodes:
    """The machines that are alive, and what each says of itself; None while it has not answered."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}
        self.reports: dict[str, Report | None] = {}
        self.now = 0.0

    def join(self, name: str, cpus: int, report: Report | None = FIT) -> None:
        self.alive[name], self.reports[name] = cpus, report

    def machines(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": id_of(name), "NodeManagerHostname": name, "NodeManagerAddress": name, "Resources": {"CPU": cpus}}
            for name, cpus in self.alive.items()
        ]

    def report_of(self, node_id: str) -> Report | None:
        return next(report for name, report in self.reports.items() if id_of(name) == node_id)

    def later(self, members: Members) -> list[str]:
        self.now += 10
        return members.news()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    nodes = Nodes()

    def remote(function: Any) -> Any:
        return SimpleNamespace(
            options=lambda scheduling_strategy, **named: SimpleNamespace(
                remote=lambda needs: scheduling_strategy.node_id
            )
        )

    monkeypatch.setattr(cluster, "_machines", nodes.machines)
    monkeypatch.setattr(cluster.ray, "remote", remote)
    monkeypatch.setattr(cluster.ray, "get", lambda name, timeout: nodes.report_of(name))
    monkeypatch.setattr(cluster.ray, "wait", lambda names, timeout: ([n for n in names if nodes.report_of(n)], []))
    monkeypatch.setattr(cluster.time, "monotonic", lambda: nodes.now)
    return nodes


def test_a_machine_that_joins_later_is_used_once_it_has_looked_at_itself(nodes: Nodes) -> None:
    nodes.join("first", 2)
    members = Members(NEEDS, Slots(2, 1, 0.0), pytest.fail)
    assert (members.ids, members.share()) == ((id_of("first"),), 2)
    nodes.join("second", 4, None)
    assert nodes.later(members) == []
    assert members.share() == 2
    nodes.reports["second"] = FIT
    assert nodes.later(members) == ["The machine second has joined. Trials at once: 6."]
    assert members.ids == (id_of("first"), id_of("second"))
    assert nodes.later(members) == []


def test_a_machine_that_is_lost_takes_its_slots_along_and_may_return(nodes: Nodes) -> None:
    nodes.join("first", 2)
    members = Members(NEEDS, Slots(2, 1, 0.0), pytest.fail)
    nodes.alive.clear()
    said = "The machine first is gone; its trials resume elsewhere. No machine is left to train on; waiting for one."
    assert nodes.later(members) == [said]
    assert members.share() == 0
    nodes.join("again", 3)
    assert nodes.later(members) == ["The machine again has joined. Trials at once: 3."]


def test_a_machine_that_joins_and_cannot_train_is_left_alone(nodes: Nodes) -> None:
    nodes.join("first", 2)
    members = Members(NEEDS, Slots(2, 1, 0.0), pytest.fail)
    nodes.join("other", 8, Report("cannot see /shared/runs/x. Set RUNS_DIR to a path that all machines share"))
    (said,) = nodes.later(members)
    assert said.startswith("The machine other has joined and is not used: it cannot see /shared/runs/x. Set RUNS_DIR")
    assert (members.ids, members.share(), nodes.later(members)) == ((id_of("first"),), 2, [])


def test_a_machine_that_cannot_train_at_the_start_is_refused(nodes: Nodes) -> None:
    nodes.join("first", 2)
    nodes.join("other", 2, Report("has no CUDA device. Remove it from the cluster, or set device: cpu"))
    with pytest.raises(UserError, match=r"the machine other has no CUDA device\. Remove it"):
        Members(NEEDS, Slots(4, 1, 0.0), pytest.fail)


def test_a_machine_of_another_kind_is_told(nodes: Nodes) -> None:
    nodes.join("first", 2, Report("", "an old processor"))
    said: list[str] = []
    Members(NEEDS, Slots(2, 1, 0.0), said.append)
    assert len(said) == 1
    assert said[0].startswith("The machine first is of another kind (an old processor; this one: ")


def test_the_driver_s_own_machine_may_have_no_cores_for_trials(nodes: Nodes) -> None:
    nodes.join("driver", 0)
    nodes.join("first", 2)
    assert Members(NEEDS, Slots(2, 1, 0.0), pytest.fail).ids == (id_of("first"),)


def test_a_number_that_the_file_sets_stays(nodes: Nodes) -> None:
    nodes.join("first", 2)
    members = Members(NEEDS, Slots(1, 1, 0.0, is_fixed=True), pytest.fail)
    nodes.join("second", 2)
    nodes.later(members)
    assert members.share() == 1
