"""The files in deploy/ are what Ray, Kubernetes and the shell expect. No cloud or cluster is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.places import ROOT

DEPLOY = ROOT / "deploy"
SCRIPTS = [path for folder in (DEPLOY, ROOT / "tests" / "deploy") for path in sorted(folder.glob("*.sh"))]
# Of KubeRay's definition, version 1.5.1, as far as the file uses it: no package carries it.
RAY_JOB = {
    "apiVersion": None,
    "kind": None,
    "metadata": client.V1ObjectMeta,
    "spec": {
        "entrypoint": None,
        "entrypointNumGpus": None,
        "shutdownAfterJobFinishes": None,
        "ttlSecondsAfterFinished": None,
        "backoffLimit": None,
        "rayClusterSpec": {
            "rayVersion": None,
            "authOptions": {"mode": None},
            "headGroupSpec": {"rayStartParams": {"num-gpus": None}, "template": client.V1PodTemplateSpec},
            "workerGroupSpecs": [
                {
                    "groupName": None,
                    "replicas": None,
                    "minReplicas": None,
                    "maxReplicas": None,
                    "rayStartParams": {"num-gpus": None},
                    "template": client.V1PodTemplateSpec,
                }
            ],
        },
    },
}


@pytest.mark.parametrize("name", ["ray-up-aws.yaml", "ray-up-onpremise.yaml"])
def test_ray_up_takes_the_file(name: str) -> None:
    # In a process of its own: Ray's launcher sets up logging and warns of its own dependencies.
    check = (
        "import sys, yaml; from ray.autoscaler._private.util import prepare_config, validate_config;"
        "validate_config(prepare_config(yaml.safe_load(open(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, str(DEPLOY / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_ray_job_has_only_fields_that_kubernetes_and_kuberay_know() -> None:
    claim, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert unknown(claim, client.V1PersistentVolumeClaim) == []
    assert unknown(job, RAY_JOB) == []


def test_unknown_fields_are_found_at_any_depth() -> None:
    pod = {"spec": {"containers": [{"name": "a", "imagePullPolicie": "Never"}], "volumes": "none"}}
    found = unknown(pod, client.V1PodTemplateSpec)
    assert found == ["spec.containers.0.imagePullPolicie", "spec.volumes"]


def test_versions_of_the_ray_job_and_its_image_are_the_installed_ones() -> None:
    import ray

    _, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert f'"ray[default]=={ray.__version__}"' in (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shell_scripts_are_clean(script: Path) -> None:
    checker = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [str(checker), "--external-sources", str(script)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def unknown(value: Any, expected: Any, path: str = "") -> list[str]:
    """Paths of what is not expected. Args: expected: a model of Kubernetes' client, its name, or a tree of them."""
    if isinstance(expected, str):
        if expected.lower().startswith("list["):
            expected = [expected[5:-1]]
        elif expected.lower().startswith("dict"):
            return [] if isinstance(value, dict) else [path]
        else:
            expected = getattr(client, expected, None)
    if isinstance(expected, list):
        if not isinstance(value, list):
            return [path]
        inside = enumerate(value)
        return [each for number, item in inside for each in unknown(item, expected[0], joined(path, str(number)))]
    if expected is None:
        return [path] if isinstance(value, dict | list) else []
    if not isinstance(value, dict):
        return [path]
    if not isinstance(expected, dict):
        expected = {expected.attribute_map[name]: kind for name, kind in expected.openapi_types.items()}
    found = [joined(path, key) for key in value if key not in expected]
    known = [key for key in value if key in expected]
    return found + [each for key in known for each in unknown(value[key], expected[key], joined(path, key))]


def joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
