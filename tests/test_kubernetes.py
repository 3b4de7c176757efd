"""deploy/kubernetes.yaml: checked against the schemas of the API, and against the image and the service."""

import re
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from config import BASE_DIR, ConfigError, Settings

MANIFEST = list(yaml.safe_load_all((BASE_DIR / "deploy/kubernetes.yaml").read_text()))
OBJECTS = {each["kind"]: each for each in MANIFEST}
SETTINGS = OBJECTS["ConfigMap"]["data"]
SECRETS = OBJECTS["Secret"]["stringData"]
DOCKERFILE = (BASE_DIR / "Dockerfile").read_text()
PODS = {
    "Job": OBJECTS["Job"]["spec"]["template"],
    "Deployment": OBJECTS["Deployment"]["spec"]["template"],
    "CronJob": OBJECTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"],
}
DEPLOYED: dict[str, Any] = PODS["Deployment"]["spec"]
[CONTAINER] = DEPLOYED["containers"]


# The oldest and the newest whose schemas the package has.
@pytest.mark.parametrize("version", ["1.33", "1.37"])
@pytest.mark.parametrize("kind", OBJECTS)
def test_object_is_one_of_the_api(kind, version):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

    validator.validate(OBJECTS[kind], version, strict=True)


def test_every_object_has_a_kind_of_its_own():
    assert len(OBJECTS) == len(MANIFEST)


def test_settings_are_those_of_the_service(tmp_path):
    names = {field.upper() for field in Settings.__dataclass_fields__}
    assert {name.removesuffix("_FILE") for name in SETTINGS} <= names

    for name, content in {
        "secret_key": "k" * 50,
        "database_url": "postgresql://demo_user:PASSWORD@HOST/demo_user",
        "redis_url": "redis://:PASSWORD@HOST/0",
    }.items():
        assert content in SECRETS[name] or name == "secret_key"
        (tmp_path / name).write_text(content)
    files = {name: path.replace("/run/secrets/demo-user", str(tmp_path)) for name, path in SETTINGS.items()}
    settings = Settings.load({"UTILMETA_PRODUCTION": "1"} | files)
    assert settings.allowed_hosts == ["users.example.com"]
    assert settings.hash_concurrency == int(CONTAINER["resources"]["requests"]["cpu"])


@pytest.mark.parametrize("name", SECRETS)
def test_service_does_not_start_with_a_secret_that_was_not_replaced(name, tmp_path):
    (tmp_path / name).write_text(SECRETS[name])
    others = {"UTILMETA_PRODUCTION": "1", "SECRET_KEY": "" if name == "secret_key" else "k" * 50}

    with pytest.raises(ConfigError, match=f"^{name.upper()} takes"):
        Settings.load(others | {f"{name.upper()}_FILE": str(tmp_path / name)})


@pytest.mark.parametrize("kind", PODS)
def test_pod_has_the_secrets_and_can_change_nothing(kind):
    pod = PODS[kind]["spec"]
    [container] = pod["containers"]

    files = [path for name, path in SETTINGS.items() if name.endswith("_FILE")]
    assert {path.rpartition("/")[2] for path in files} == set(SECRETS)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {path.rpartition("/")[0] for path in files} == {mounts["secrets"]}
    assert mounts["tmp"] == "/tmp"
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert container["envFrom"] == [{"configMapRef": {"name": OBJECTS["ConfigMap"]["metadata"]["name"]}}]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"\nUSER {pod['securityContext']['fsGroup']}:" in DOCKERFILE
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_pod_has_the_image_of_this_version():
    version = re.search('^version = "(.+)"$', (BASE_DIR / "pyproject.toml").read_text(), re.MULTILINE)[1]
    images = {container["image"] for pod in PODS.values() for container in pod["spec"]["containers"]}

    assert images == {f"registry.example.com/demo-user:{version}"}


def test_requests_find_the_pods():
    labels = PODS["Deployment"]["metadata"]["labels"]
    [port], [service_port] = CONTAINER["ports"], OBJECTS["Service"]["spec"]["ports"]

    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    assert OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert all(PODS[kind]["metadata"]["labels"] != labels for kind in ("Job", "CronJob"))
    assert service_port["targetPort"] == port["name"]
    assert f"\nEXPOSE {port['containerPort']}\n" in DOCKERFILE
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == port["name"]


def test_probes_ask_for_health(client):
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        # As the kubelet does, by the address of the pod.
        response = client.get(CONTAINER[probe]["httpGet"]["path"], headers={"Host": "10.1.2.3:8001"})
        assert response.json() == {"status": "ok"}


def test_pod_is_killed_later_than_granian_kills_its_workers():
    waits = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    granian = dotenv_values(BASE_DIR / "deploy/granian.conf")

    stops = int(granian["GRANIAN_WORKERS_KILL_TIMEOUT"] or "")
    assert DEPLOYED["terminationGracePeriodSeconds"] > waits + stops
