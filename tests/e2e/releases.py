"""The chart in a namespace of a cluster, as far as the operator needs it, and the operator itself.

tests/e2e/conftest.py makes releases. What the operator may do is what the rendered roles say: it logs in as
the rendered service account, by a token that the API server gave out for it, with the rendered command and
environment. Only where it runs is ours, for there is no kubelet.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import audits
import clusters
import yaml

from usher_core.embedded import processes
from usher_core.testing import stacks

CHART = Path(__file__).parents[2] / "charts" / "usher"
VALUES = CHART / "ci" / "default-values.yaml"

_INSTALLED = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
_PATIENCE = 60.0  # seconds until the operator is healthy, and until it has ended


def rendered(helm: Path, namespace: str, *sets: str) -> list[clusters.Document]:
    """Render the chart; `sets` are values as `path=JSON`."""
    words = [word for value in sets for word in ("--set-json", value)]
    run = subprocess.run(
        [helm, "template", "usher", CHART, "--namespace", namespace, "-f", VALUES, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [document for document in yaml.safe_load_all(run.stdout) if document is not None]


class Release:
    """A release of the chart: accounts and roles while the block runs, the operator from `start` on.

    `secrets` holds the values of the environment that the chart takes out of Secrets.
    """

    def __init__(
        self, cluster: clusters.Cluster, helm: Path, namespace: str, secrets: Mapping[str, str], *sets: str
    ) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._documents = rendered(helm, namespace, *sets)
        self._secrets = secrets
        self._operator: processes.KeptProcess | None = None
        self.port = 0
        self.server: str | None = None
        """Where its operator finds the API server, if not where we do."""
        (self._deployment,) = (
            it for it in self._of("Deployment") if it["metadata"]["name"].endswith("-operator")
        )

    @property
    def account(self) -> str:
        """The operator's account, as the API server names it."""
        name = self._deployment["spec"]["template"]["spec"]["serviceAccountName"]
        return f"system:serviceaccount:{self.namespace}:{name}"

    @property
    def rights(self) -> set[audits.Right]:
        """All that the rendered roles allow."""
        return audits.rights_in(self._of("Role", "ClusterRole"))

    @property
    def log(self) -> str:
        """What the operator logged, over all its starts."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def running(self) -> bool:
        """Whether the operator was started and not stopped."""
        return self._operator is not None

    @property
    def memory(self) -> int:
        """The most MiB of memory that the running operator has had."""
        assert self._operator is not None
        status = Path(f"/proc/{self._operator.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    def requests(self) -> list[audits.Request]:
        """List what the operator asked of the API server; nothing where there is no log of it."""
        log = self.cluster.audit_log
        return [] if log is None else audits.requests_of(self.account, log)

    def __enter__(self) -> Release:
        self.cluster.apply(self._of(*_INSTALLED))
        return self

    def __exit__(self, *_: object) -> None:
        # What has a namespace goes with it.
        self.stop()
        for it in self._of("ClusterRole", "ClusterRoleBinding"):
            self.cluster.kubectl("delete", it["kind"].lower(), it["metadata"]["name"], "--wait=false")

    def start(self) -> None:
        """Start the operator, and return once its liveness probe would pass; one that runs is fine."""
        if self._operator is None:
            self._operator, self.port = self.launch()

    def launch(self) -> tuple[processes.KeptProcess, int]:
        """Start one of several operators, and return it with its liveness port once it is healthy."""
        name = self.account.rpartition(":")[2]
        port = stacks.free_port()
        (container,) = self._deployment["spec"]["template"]["spec"]["containers"]
        # What of our own environment is Usher's or Kubernetes' the pod would not have.
        own = {key: value for key, value in os.environ.items() if not key.startswith(("USHER_", "KUBE"))}
        env = (
            own
            | self._environment(container)
            | {"KUBECONFIG": str(self.cluster.log_in(self.namespace, name, self.server))}
        )
        self.metrics_port = stacks.free_port()
        ports = ["--liveness", str(port), "--metrics", str(self.metrics_port)]
        command = [*container["command"], *container["args"], *ports]
        assert command[0] == "usher"
        with self._log.open("ab") as log:
            started = processes.KeptProcess(
                [sys.executable, "-m", "usher_core.commands", *command[1:]],
                env=env,
                output=log,
                cwd=self.cluster.folder,
                grace=_PATIENCE,
            )
        deadline = time.monotonic() + _PATIENCE
        while health(port) is None:
            assert started.running, f"the operator has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the operator is not healthy:\n{self.log}"
            time.sleep(0.05)
        return started, port

    def stop(self) -> None:
        """Stop the operator as Kubernetes would, and insist on its ending well; none that runs is fine."""
        if self._operator is not None:
            ended, self._operator = self._operator, None
            ended.stop()
            assert ended.wait() == 0, f"the operator ended with {ended.wait()}:\n{self.log[-4000:]}"

    @property
    def _log(self) -> Path:
        return self.cluster.folder / f"{self.namespace}-operator.log"

    def _of(self, *kinds: str) -> list[clusters.Document]:
        return [document for document in self._documents if document["kind"] in kinds]

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Work out the container's environment, as a kubelet would."""
        maps = {it["metadata"]["name"]: it["data"] for it in self._of("ConfigMap")}
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= maps[source["configMapRef"]["name"]]
        for variable in container.get("env", []):
            name = variable["name"]
            if "secretKeyRef" in variable.get("valueFrom", {}):
                found[name] = self._secrets[name]
            else:
                found[name] = variable["value"]
        return found


def health(port: int) -> dict[str, Any] | None:
    """Ask an operator for its health; None while it tells none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        found: dict[str, Any] | None = json.load(answer) if answer.status == 200 else None
    except OSError:
        return None
    else:
        return found
    finally:
        connection.close()
