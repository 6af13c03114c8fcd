"""The Kubernetes cluster of a test session, as its administrator sees it: by kubectl.

tests/e2e/conftest.py makes one, of the session's own control plane or of the context that it was given. The
invariant: kubectl is told the context in every call, so that no other cluster is ever touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Document = dict[str, Any]
Found = TypeVar("Found")

# Set on every namespace that a test makes, so that what a killed session leaves in a cluster is found.
LABEL = "usher.dev/end-to-end-test"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster; `kubeconfig` is None for kubectl's own, `audit_log` and `etcd` for one that isn't ours."""

    program: Path
    folder: Path
    context: str
    kubeconfig: Path | None = None
    audit_log: Path | None = None
    etcd: str | None = None

    def run(self, *words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, however it ends."""
        chosen = [f"--context={self.context}", f"--cache-dir={self.folder / 'kubectl'}"]
        if self.kubeconfig is not None:
            chosen.append(f"--kubeconfig={self.kubeconfig}")
        return subprocess.run(
            [self.program, *chosen, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=360,
            check=False,
        )

    def kubectl(self, *words: str | Path, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints; any failure fails the test."""
        run = self.run(*words, stdin=stdin)
        assert run.returncode == 0, f"kubectl {' '.join(map(str, words))}: {run.stderr}"
        return run.stdout

    def refusal(self, *words: str | Path, stdin: str | None = None) -> str:
        """Return what kubectl says when it fails; success fails the test."""
        run = self.run(*words, stdin=stdin)
        assert run.returncode != 0, f"kubectl {' '.join(map(str, words))}: {run.stdout}"
        return run.stderr

    def get(self, namespace: str, kind: str, name: str) -> Document | None:
        """Read a resource; None when there is none of the name."""
        said = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: Document | None = json.loads(said) if said else None
        return found

    def names(self, namespace: str, kind: str) -> set[str]:
        """Name the resources of a kind."""
        return {
            word.partition("/")[2]
            for word in self.kubectl("get", kind, "-n", namespace, "-o", "name").split()
        }

    def apply(self, documents: Iterable[Document]) -> None:
        """Create or change resources."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed(documents)))

    def until(self, condition: Callable[[], Found], what: str, patience: float = 30.0) -> Found:
        """Wait until the condition holds, and return what it found."""
        deadline = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.1)
        return found

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """Make a namespace for as long as the block runs."""
        name = f"usher-e2e-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": {LABEL: "true"}}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        try:
            yield name
        finally:
            self.free_tenants(name)
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def free_tenants(self, namespace: str) -> None:
        """Delete every ScimTenant of a namespace, whether or not an operator is there to let it go."""
        if self.names(namespace, "scimtenants"):
            self.kubectl("delete", "scimtenants", "--all", "-n", namespace, "--wait=false")
        for name in self.names(namespace, "scimtenants"):
            # It may be gone by now.
            self.run("patch", "scimtenant", name, "-n", namespace, "--type=merge", f"--patch={_UNBOUND}")

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self._config()["clusters"][0]["cluster"]["server"])

    def log_in(self, namespace: str, account: str, server: str | None = None) -> Path:
        """Write a kubeconfig with a token of a service account, asked of the API server, and nothing else.

        `server` is where it leads, if not where we go ourselves.
        """
        token = self.kubectl("create", "token", account, "-n", namespace, "--duration=1h").strip()
        shown = self._config()
        if server is not None:
            shown["clusters"][0]["cluster"]["server"] = server
        shown["users"] = [{"name": account, "user": {"token": token}}]
        (context,) = shown["contexts"]
        context["context"] = {"cluster": context["context"]["cluster"], "user": account}
        path = self.folder / f"{namespace}-{account}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(shown))
        return path

    def _config(self) -> Document:
        words = ("config", "view", "--raw", "--flatten", "--minify", "-o", "json")
        shown: Document = json.loads(self.kubectl(*words))
        return shown


_UNBOUND = json.dumps({"metadata": {"finalizers": None}})


def listed(documents: Iterable[Document]) -> Document:
    """Put documents into one that kubectl takes."""
    return {"apiVersion": "v1", "kind": "List", "items": list(documents)}
