"""The files that build and start containers: valid, and without a way in for others. Starts no container."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE_FILES = sorted(DOCKER.glob("compose*.yaml"))
SCRIPTS = sorted(
    path
    for path in [*DOCKER.iterdir(), *(DOCKER / "entrypoints").iterdir()]
    if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
)


def told_by(program: str, *words: str | Path) -> str:
    """What a linter of this environment says; it must find nothing."""
    command = [Path(sys.executable).with_name(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


def services(path: Path = DOCKER / "compose.yaml") -> dict[str, dict[str, Any]]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    assert isinstance(content, dict)
    return content


def test_hadolint_finds_nothing() -> None:
    assert told_by("hadolint", DOCKER / "Dockerfile") == ""


def test_shellcheck_finds_nothing() -> None:
    assert len(SCRIPTS) >= 6
    assert told_by("shellcheck", *SCRIPTS) == ""


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_compose_files_follow_the_specification(path: Path) -> None:
    assert told_by("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path) == ""


@pytest.mark.parametrize("name", services())
def test_containers_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "devices"}
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", services())
def test_containers_have_limits_a_health_check_and_a_way_to_restart(name: str) -> None:
    service = services()[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    if name == "job":  # it ends by itself, and is started by hand
        assert service["restart"] == "no" and service["profiles"] == ["job"]
    else:
        assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"]


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_ports_are_published_on_this_machine_only(path: Path) -> None:
    ports = [port for service in services(path).values() for port in service.get("ports", [])]
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_only_mlflow_publishes_a_port_and_reaches_the_database() -> None:
    assert [name for name, service in services().items() if "ports" in service] == ["mlflow"]
    networks = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["networks"]
    assert networks["database"] == {"internal": True}
    assert {name for name, service in services().items() if "database" in service["networks"]} == {"database", "mlflow"}


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_secrets_are_files_and_in_neither_commands_nor_environment(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert all(list(secret) == ["file"] for secret in content.get("secrets", {}).values())
    for service in content["services"].values():
        words = " ".join([*service.get("command", []), *service.get("entrypoint", [])]).replace("/run/secrets/", "")
        assert not re.search(r"password|secret|token|://[^ ]*:[^ ]*@", words, re.IGNORECASE)
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY", key):
                assert str(value).startswith("/"), f"{key} holds a secret, not the path of one"


def test_each_container_sees_only_the_secrets_that_it_needs() -> None:
    seen = {name: set(service.get("secrets", [])) for name, service in services().items()}
    assert seen["head"] == seen["worker"] == {"ray_token"}
    assert seen["job"] == {"ray_token", "mlflow_sweeps_password"}
    assert seen["database"] == {"database_password"}


def test_every_variable_of_the_compose_file_has_a_default_and_is_in_the_example() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", text))
    told = dict(re.findall(r"^#(\w+)=(.*)$", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert used == told


def test_make_secrets_creates_what_is_missing_and_keeps_the_rest(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    script.write_bytes((DOCKER / "make-secrets").read_bytes())
    kept = tmp_path / "secrets" / "ray_token"
    kept.parent.mkdir()
    kept.write_text("kept")
    subprocess.run(["sh", script], check=True, capture_output=True)
    content = {path.name: path.read_text() for path in kept.parent.iterdir()}
    assert content["ray_token"] == "kept"
    named = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["secrets"]
    assert {DOCKER / "secrets" / name for name in content} == {DOCKER / each["file"] for each in named.values()}
    others = [text for name, text in content.items() if name != "ray_token"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in others) and len(set(others)) == len(others)


def test_each_kind_of_container_gets_a_certificate_for_its_addresses(tmp_path: Path) -> None:
    script = tmp_path / "make-certificates"
    script.write_bytes((DOCKER / "make-certificates").read_bytes())
    subprocess.run(["sh", script], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    tls = yaml.safe_load((DOCKER / "compose.tls.yaml").read_text(encoding="utf-8"))
    assert first.keys() == {Path(each["file"]).name for each in tls["secrets"].values()} | {"tls_ca_key"}
    authority = x509.load_pem_x509_certificate(first["tls_ca"])
    network = tls["networks"]["cluster"]["ipam"]["config"][0]
    for name in ("head", "job", "worker", "mlflow"):
        certificate = x509.load_pem_x509_certificate(first[f"tls_{name}_certificate"])
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)} - {"127.0.0.1"}
        at = tls["services"][name].get("networks", {}).get("cluster", {}).get("ipv4_address")
        if name in ("head", "mlflow"):  # which others know by name
            assert name in names.get_values_for_type(x509.DNSName)
        if name == "mlflow":
            assert not addresses
        elif name == "worker":  # the network itself and its last address are given to nobody
            assert {str(each) for each in list(ip_network(network["ip_range"]))[:-1]} == addresses
        else:
            assert addresses == {at}
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_the_key_that_signs_certificates_is_given_to_no_container() -> None:
    assert "tls_ca_key" not in (DOCKER / "compose.tls.yaml").read_text(encoding="utf-8")


def test_the_images_packages_are_those_of_the_lock_without_tools_of_development() -> None:
    """Otherwise tests would check other versions than those that run."""

    def pinned(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))

    image, full = pinned(DOCKER / "requirements.lock"), pinned(ROOT / "requirements.lock")
    assert image.items() <= full.items()
    assert {
        "torch",
        "ray",
        "mlflow",
        "flask-wtf",
        "psycopg-binary",
        "adbc-driver-postgresql",
        "onnx",
        "timm",
    } <= image.keys()
    assert not image.keys() & {"pytest", "mypy", "ruff", "jupyterlab", "ipykernel", "playwright"}


def test_the_image_gets_the_code_and_nothing_else() -> None:
    """What .dockerignore does not name cannot get into an image, such as secrets, results and tests."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for words in copied for word in words.split()} == sent
    assert all((ROOT / path).exists() for path in sent)


def test_every_command_that_a_message_names_reaches_the_containers() -> None:
    sources = [path for package in ("kdas", "sweeps", "analysis") for path in (ROOT / package).rglob("*.py")]
    named = {
        each for path in sources for each in re.findall(r"make_command\([\"'](\w+)", path.read_text(encoding="utf-8"))
    }
    reach = re.search(r"^ON := .*,(.*)\)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert reach and {"sweep", "report", "stop"} <= named <= set(reach[1].split())


def test_entrypoints_in_python_can_be_read_by_the_oldest_python() -> None:
    for path in (DOCKER / "entrypoints").glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["sweep-on", "SET=seeds=3"],
            "-f docker/compose.yaml --profile job run --rm -T job sweep --set seeds=3 -- x.yaml",
        ),
        (["status-on", "SET=seeds=3"], "-f docker/compose.yaml --profile job run --rm -T job status -- x.yaml"),
        (["stop-on", "TRIAL=a-s1"], "run --rm -T job stop -- x.yaml a-s1"),
        (["table-on", "FORMAT=latex"], "run --rm -T job table --format latex -- x.yaml"),
        (
            ["sync-on", "WITH=tls"],
            "-f docker/compose.yaml -f docker/compose.tls.yaml --profile job run --rm -T job sync",
        ),
        (["down"], "-f docker/compose.yaml down"),
        (["sweep-on", "WITH=ssl"], "WITH: expected tls or gpu or both, got ssl."),
    ],
)
def test_make_starts_what_the_user_asks_for(words: list[str], said: str) -> None:
    command = ["make", "--no-print-directory", "COMPOSE=echo", "NAME=x.yaml", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert said in done.stdout + done.stderr
