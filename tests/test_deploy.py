"""The files of deploy/: manifests by schema, commands by `evo`'s own parser, scripts by linters.

Pod templates are held against Kubernetes' own strict schema. KubeRay's CRDs are in no package:
their fields are listed here, as in its API reference for ray.io/v1.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import psutil
import pytest
from jsonschema import Draft202012Validator, ValidationError
from ruamel.yaml import YAML

from evo.cli import CALLS
from evo.cli.arguments import parser
from fitness.evaluation import Task
from tests.evo.driving import wait_until
from tests.evo.facts import read
from tests.evo.search.test_loop import InProcess, outcome, search
from tests.evo.toy import write_spec

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
KUBERNETES = "1.33"
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TEMPLATE = {"type": "object", "required": ["spec"]}


def closed(required: list[str], **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": False,
    }


CLUSTER = closed(
    ["headGroupSpec"],
    rayVersion={"type": "string"},
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=closed(
        [],
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources=closed([], limits={"type": "object"}, requests={"type": "object"}),
        version={"enum": ["v1", "v2"]},
    ),
    suspend={"type": "boolean"},
    headGroupSpec=closed(
        ["template"], serviceType={"type": "string"}, rayStartParams=TEXTS, template=TEMPLATE
    ),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ["groupName", "minReplicas", "maxReplicas", "template"],
            groupName={"type": "string"},
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            numOfHosts=COUNT,
            idleTimeoutSeconds=COUNT,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        ),
    },
)
JOB = closed(
    [],
    entrypoint={"type": "string"},
    runtimeEnvYAML={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    suspend={"type": "boolean"},
    metadata=TEXTS,
    clusterSelector=TEXTS,
    rayClusterSpec=CLUSTER,
)
SPECS = {"raycluster.yaml": ("RayCluster", CLUSTER), "rayjob.yaml": ("RayJob", JOB)}


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(DEPLOY / name)
    return found


def cluster_of(name: str) -> dict[str, Any]:
    spec = manifest(name)["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return found


def check(name: str, found: dict[str, Any]) -> None:
    """Raise ValidationError unless it is a manifest of KubeRay with pods of Kubernetes."""
    kind, spec = SPECS[name]
    name_only = closed(["name"], name={"type": "string", "pattern": "^[a-z0-9-]{1,46}$"})
    header = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}}
    whole = closed(
        ["apiVersion", "kind", "metadata", "spec"], **header, metadata=name_only, spec=spec
    )
    Draft202012Validator(whole).validate(found)
    cluster = found["spec"].get("rayClusterSpec", found["spec"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


STUBS = {  # Slurm's commands as they are seen from a job of one node
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
    "scontrol": 'echo "$@" >> {folder}/requeued',
    "evo": 'exec {python} -m evo.cli "$@"',
    "ray": 'exec {python} -m ray.scripts.scripts "$@"',
}


@pytest.mark.parametrize("name", SPECS)
def test_a_manifest_meets_the_schema_and_a_misspelt_key_of_it_does_not(name: str) -> None:
    check(name, manifest(name))
    for harm in ("headGroupSpec", "minReplicas", "claimName", "containerPort", "rayVersion"):
        text = (DEPLOY / name).read_text().replace(f"{harm}:", f"{harm}s:")
        with pytest.raises((ValidationError, kubernetes_validate.ValidationError)):
            check(name, YAML(typ="safe").load(text))


def test_both_manifests_have_the_same_cluster_of_the_version_that_is_tested() -> None:
    job, cluster = cluster_of("rayjob.yaml"), cluster_of("raycluster.yaml")
    assert job == cluster
    assert job["rayVersion"] == RAY
    assert job["enableInTreeAutoscaling"]
    assert all(one["minReplicas"] >= 1 for one in job["workerGroupSpecs"]), "a launch needs room"
    assert job["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert set(re.findall(r"rayproject/ray:([\d.]+)-", (DEPLOY / "Dockerfile").read_text())) == {
        RAY
    }


def test_the_commands_of_the_job_and_of_the_script_are_evos() -> None:
    entry = manifest("rayjob.yaml")["spec"]["entrypoint"]
    [line] = re.findall(r"^evo (.+) &$", (DEPLOY / "slurm.sh").read_text(), re.MULTILINE)
    for words in (shlex.split(entry)[1:], shlex.split(line)):
        options = parser(CALLS).parse_args(words)
        assert options.command is CALLS["launch"]
        assert options.or_resume


def test_what_the_image_installs_is_an_extra_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extra] = re.findall(r"evomix\[(\w+)\]", (DEPLOY / "Dockerfile").read_text())
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize(
    ("linter", "file"), [("shellcheck", "slurm.sh"), ("hadolint", "Dockerfile")]
)
def test_linters_find_nothing(linter: str, file: str) -> None:
    program = Path(sys.executable).with_name(linter)
    done = subprocess.run([program, DEPLOY / file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_script_is_queued_again_when_slurm_stops_it_and_then_ends_as_undisturbed(
    tmp_path: Path,
) -> None:
    commands, run = tmp_path / "bin", tmp_path / "run"
    commands.mkdir()
    for name, text in STUBS.items():
        filled = text.format(folder=tmp_path, python=sys.executable)
        (commands / name).write_text(f"#!/bin/bash\n{filled}\n")
        (commands / name).chmod(0o755)
    spec = write_spec(tmp_path, evaluations=12)

    def start(**variables: str) -> "subprocess.Popen[str]":
        slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1"}
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "PYTHONPATH": str(ROOT), "SLURM_CPUS_PER_TASK": "2", **slurm}
        return subprocess.Popen(
            ["bash", str(DEPLOY / "slurm.sh"), str(spec), str(run)],
            env={**os.environ, **own, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    script = start(TOY_SECONDS="1")
    wait_until(script, run, '"evaluation"', 4)
    started = psutil.Process(script.pid).children(recursive=True)
    script.send_signal(signal.SIGTERM)
    text, _ = script.communicate(timeout=200)
    assert script.returncode == 130, text
    assert (tmp_path / "requeued").read_text() == f"requeue {os.getpid()}\n"
    assert read(run)[-1]["fact"] == "stopped"
    assert not psutil.wait_procs(started, timeout=60)[1], "Ray has ended with the job"
    again = start()
    text, _ = again.communicate(timeout=300)
    assert again.returncode == 0, text
    search(tmp_path / "calm", spec, InProcess(Task("tests.evo.toy:score")))
    assert outcome(run) == outcome(tmp_path / "calm")
