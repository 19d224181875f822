"""The images cannot be built everywhere; what their files say is checked against the checkout."""

import pathlib
import re
import sys
import tomllib

import grimp
import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGES = ("operator", "trainer")
# Module of a distribution, where the two are called differently.
DISTRIBUTIONS = {"yaml": "pyyaml", "prometheus_client": "prometheus-client"}


def statements(image: str) -> list[str]:
    """Return the statements of a Dockerfile, each on one line and without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "images" / image / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("image", IMAGES)
def test_image_runs_as_the_user_of_the_pods(image: str) -> None:
    assert "USER 65532:65532" in statements(image)
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 65532


@pytest.mark.parametrize("image", IMAGES)
def test_image_installs_nothing_without_its_hash_but_the_project_itself(image: str) -> None:
    installs = [
        part
        for line in statements(image)
        for part in line.split("&&")
        if re.search(r"pip( --python \S+)? install", part)
    ]
    assert installs
    assert all("--no-deps" in part and ("--require-hashes" in part or "/wheels/*.whl" in part) for part in installs)


@pytest.mark.parametrize("image", IMAGES)
def test_image_copies_what_the_wheel_is_made_of_and_no_more(image: str) -> None:
    copied = [line.split()[1:-1] for line in statements(image) if re.match(r"COPY (?!--from)", line)]
    names = {name.format(DEVICE="gpu") for group in copied for name in (part.replace("$", "") for part in group)}
    packages = {path.partition("/")[0] for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert packages <= names
    assert all((ROOT / name).exists() for name in names)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name.partition("/")[0] for name in names} == allowed


def test_both_devices_of_the_trainer_have_a_lock() -> None:
    assert all((ROOT / "requirements" / f"trainer-{device}.txt").exists() for device in ("gpu", "cpu"))


def test_operators_image_has_what_the_operator_imports_and_no_more() -> None:
    graph = grimp.build_graph("imagetrain_operator", include_external_packages=True, cache_dir=None)
    imported = {module.partition(".")[0] for module in graph.modules if graph.is_module_squashed(module)}
    foreign = imported - set(sys.stdlib_module_names) - {"imagetrain_api"}
    group = PROJECT["dependency-groups"]["operator-image"]
    assert requirement_names(group) == {DISTRIBUTIONS.get(name, name) for name in foreign}
    project = PROJECT["project"]
    assert set(group) <= set(project["dependencies"]) | set(project["optional-dependencies"]["operator"])
