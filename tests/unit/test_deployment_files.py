"""The Dockerfile, the manifest and the units fit this package and each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pywebtransport import ServerApp, ServerConfig
from tests.support.scripts import ROOT, load_script

load_script("debian_root")
image = load_script("image")

FOLDER = ROOT / "examples" / "deployment"
UNIT = FOLDER / "app.service"
# Seconds that the main process gives its workers beyond the timeouts.
WORKERS = 5


def ending() -> float:
    """Seconds that a server may take to end, by default."""
    config = ServerConfig()
    timeouts = [config.drain_spread, config.drain_timeout, config.close_timeout]
    return sum([*timeouts, config.shutdown_timeout, WORKERS])


def final() -> tuple[dict[str, str], list[str]]:
    """The instructions of the run image by name, the last of each, and all packages of apt."""
    stage = image.stages((ROOT / "Dockerfile").read_text())[-1]
    installed = re.search(r"--no-install-recommends (.*?)&&", dict(stage.steps)["RUN"])
    assert installed is not None
    return dict(stage.steps), installed[1].split()


# ------------------------------------------------------------------------ systemd


def setting(name: str, path: Path = UNIT) -> list[str]:
    """The values of a setting of a unit."""
    text = path.read_text().replace("\\\n", " ")
    return [" ".join(value.split()) for value in re.findall(rf"^{name}=(.*)$", text, re.M)]


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    """As systemd itself judges it: 10 is everything exposed, below 4 is what the guide promises."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd 250 or newer")
    found = re.search(r"Overall exposure level for app\.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < 4
    # And it would notice an unit without protection.
    plain = tmp_path / "app.service"
    plain.write_text("[Service]\nExecStart=/bin/true\n")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(plain)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_key_is_passed_as_a_credential() -> None:
    credentials = dict(value.split(":", 1) for value in setting("LoadCredential"))
    (command,) = setting("ExecStart")
    assert "--certfile %d/tls.crt" in command
    assert "--keyfile %d/tls.key" in command
    assert set(credentials) == {"tls.crt", "tls.key"}
    assert all(path.startswith("/etc/letsencrypt/live/") for path in credentials.values())


def test_the_unit_and_the_manifest_wait_for_the_drain() -> None:
    (stop,) = setting("TimeoutStopSec")
    assert int(stop) > ending()
    assert deployment()["terminationGracePeriodSeconds"] > ending()


def test_the_socket_is_for_udp() -> None:
    path = FOLDER / "app.socket"
    assert setting("ListenDatagram", path) == ["443"]
    assert setting("ListenStream", path) == []


# ------------------------------------------------------------------------ the image


def test_copied_files_are_there_and_nothing_that_was_built() -> None:
    for stage in image.stages((ROOT / "Dockerfile").read_text()):
        for name, rest in stage.steps:
            if name != "COPY" or "--from" in rest:
                continue
            for source in rest.split()[:-1]:
                found = image.context_files(source)
                assert found
                assert [path for path in found if path.suffix in (".so", ".pyc")] == []
                assert [path for path in found if path.name == "_core.c"] == []


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("setup.py", False),
        ("pywebtransport/_quic/engine/tls.c", False),
        ("pywebtransport/_quic/_core.c", True),
        ("pywebtransport/_quic/_core.cpython-311-x86_64-linux-gnu.so", True),
        ("pywebtransport/__pycache__/x.pyc", True),
        ("examples/deployment/app.py", False),
        ("examples/chat.py", True),
        ("tests/conftest.py", True),
        (".git/config", True),
        ("server.key", True),
    ],
)
def test_what_docker_gets_of_a_checkout(path: str, ignored: bool) -> None:
    assert image.is_ignored(path, image.ignore_patterns()) is ignored


def test_the_image_has_the_libraries_at_run_time() -> None:
    """Of Debian 13, with the numbers in the names of its files."""
    record = tomllib.loads((ROOT / "vendor" / "libraries.toml").read_text())
    _, packages = final()
    for item in record["requirement"]:
        name = item.get("runtime", {}).get("debian", "").partition("{")[0]
        # GnuTLS comes with the helper, which depends on it.
        if name and name != "libgnutls":
            assert [package for package in packages if package.startswith(name)], name
    assert not [package for package in packages if package.endswith("-dev") or package == "gcc"]


def test_the_server_of_the_image_is_no_root_and_takes_udp() -> None:
    steps, _ = final()
    assert steps["USER"] == "app"
    assert steps["EXPOSE"] == "4433/udp"
    assert steps["STOPSIGNAL"] == "SIGTERM"
    assert steps["ENTRYPOINT"] == '["pywebtransport"]'


def test_the_application_of_the_examples_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import app as module  # type: ignore[import-not-found]

    assert isinstance(module.app, ServerApp)


# ------------------------------------------------------------------------ Kubernetes


def documents() -> dict[str, Any]:
    """The objects of the manifest by their kind."""
    found = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    return {item["kind"]: item for item in found}


def deployment() -> Any:
    """What a pod is made of."""
    return documents()["Deployment"]["spec"]["template"]["spec"]


def test_the_service_speaks_udp() -> None:
    (port,) = documents()["Service"]["spec"]["ports"]
    (container,) = deployment()["containers"]
    (own,) = container["ports"]
    assert port["protocol"] == own["protocol"] == "UDP"
    assert port["targetPort"] == own["name"]
    assert str(own["containerPort"]) in final()[0]["CMD"]
    selected = documents()["Service"]["spec"]["selector"]
    assert documents()["Deployment"]["spec"]["selector"]["matchLabels"] == selected


def test_probes_use_a_name_that_leads_to_the_pod() -> None:
    (container,) = deployment()["containers"]
    (alias,) = deployment()["hostAliases"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        command = probe["exec"]["command"]
        assert command[:2] == ["pywebtransport", "probe"]
        host = re.fullmatch(r"https://([\w.]+):4433/\w+", command[-1])
        assert host is not None
        assert host[1] in alias["hostnames"]
        assert probe["timeoutSeconds"] <= probe["periodSeconds"] or name == "startupProbe"


def test_the_pod_runs_as_the_user_of_the_image() -> None:
    steps, _ = final()
    uid = re.search(r"--uid (\d+)", steps["RUN"])
    assert uid is not None
    context = deployment()["securityContext"]
    assert context["runAsUser"] == context["fsGroup"] == int(uid[1])
    assert context["runAsNonRoot"] is True
    (container,) = deployment()["containers"]
    mounts = container["volumeMounts"]
    (writable,) = (mount["mountPath"] for mount in mounts if not mount.get("readOnly"))
    assert f"STATE_DIRECTORY={writable}" in steps["ENV"].split()


# ------------------------------------------------------------------------ packages at run time


def test_the_installation_page_has_the_packages_at_run_time() -> None:
    record = tomllib.loads((ROOT / "vendor" / "libraries.toml").read_text())
    page = (ROOT / "docs" / "intro" / "installation.md").read_text()
    for distribution in record["distribution"]:
        row = re.search(rf"^\| {distribution['name']} \| (`.*`) \|$", page, re.M)
        assert row is not None, distribution["name"]
        named = re.findall(r"`([\w.-]+)`", row[1])
        wanted = [
            # The number is that of the distribution's library.
            re.escape(item["runtime"][distribution["key"]]).replace(r"\{soversion\}", r"\d+")
            for item in record["requirement"]
            if "runtime" in item
        ]
        assert [name for name in named if not any(re.fullmatch(one, name) for one in wanted)] == []
        assert [one for one in wanted if not any(re.fullmatch(one, name) for name in named)] == []
