"""A Kubernetes control plane for a test session: etcd, API server, controller manager and scheduler.

tests/e2e/conftest.py starts it with the programs that `builds` made. There is no kubelet: Pods are scheduled
at most, and nothing runs in them. Invariant: it listens on loopback alone, asks for a token, keeps its data
below one folder, and its processes die with the one that started them.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import signal
import ssl
import time
from pathlib import Path

from usher_core.embedded import ports, private_files, processes

CONTEXT = "controlplane"  # the context of the kubeconfig, its cluster and its user

_HOST = "127.0.0.1"
_ATTEMPTS = 3
_PATIENCE = 120.0  # seconds; it takes three, on a machine that has nothing else to do

# What service accounts ask for is recorded when it was answered, and a watch when it began too. Kubernetes'
# own accounts are left out, and so is everybody else.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


class PlaneFailed(RuntimeError):
    """A program of the control plane did not start; the message has its last words."""


class _PortTaken(Exception):
    """Another process was faster: the next port, please."""


class ControlPlane:
    """A control plane with its data, logs and kubeconfig below `folder`, which must not be there yet."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder.absolute()
        self._token = secrets.token_hex(32)
        self._running: dict[str, processes.KeptProcess] = {}
        self.etcd = ""
        """Where etcd answers, to whoever asks on this machine."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its only context is `CONTEXT`."""
        return self._folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """What service accounts asked for: an event of audit.k8s.io/v1 a line."""
        return self._folder / "audit.log"

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return once namespaces are given their service accounts.

        Raises: PlaneFailed.
        """
        self._prepare()
        try:
            started = any(self._launched() for _ in range(_ATTEMPTS))
        except BaseException:
            self.stop()
            raise
        if not started:
            raise PlaneFailed(f"every port of {_HOST} that was tried is taken by another process")

    def stop(self) -> None:
        """End every process at once: the data is nobody's."""
        for name in reversed(list(self._running)):
            self._running.pop(name).stop()

    def log(self, name: str) -> str:
        """Read what a program logged."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True)
        private_files.write(self._folder / "tokens.csv", f'{self._token},admin,admin,"system:masters"\n')
        private_files.write(self._folder / "audit-policy.yaml", json.dumps(_AUDIT_POLICY))
        private_files.write(self._folder / "accounts.key", _new_key())

    def _launched(self) -> bool:
        """Start the processes and wait until they are ready; `False` when a port was taken meanwhile."""
        try:
            self._launch()
        except _PortTaken:
            self.stop()
            return False
        return True

    def _launch(self) -> None:
        free = ports.candidates()
        client, peer, secure = (next(free) for _ in range(3))
        etcd, server = f"http://{_HOST}:{client}", f"https://{_HOST}:{secure}"
        self.etcd = etcd
        self._run(
            "etcd",
            f"--data-dir=etcd-{client}",
            "--unsafe-no-fsync",  # no test cuts the power
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://{_HOST}:{peer}",
            f"--initial-advertise-peer-urls=http://{_HOST}:{peer}",
            f"--initial-cluster=default=http://{_HOST}:{peer}",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={_HOST}",
            f"--secure-port={secure}",
            "--cert-dir=certificates",  # it makes its own
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={server}",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--audit-policy-file=audit-policy.yaml",
            f"--audit-log-path={self.audit_log}",
        )
        self._await(server, "/readyz")
        self._write_kubeconfig(server)
        config = [f"--{name}={self.kubeconfig}" for name in ("kubeconfig", "authentication-kubeconfig")]
        config += [f"--authorization-kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self._run("kube-controller-manager", *config)
        self._run("kube-scheduler", *config)
        self._await(server, "/api/v1/namespaces/default/serviceaccounts/default")

    def _run(self, name: str, *options: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = processes.KeptProcess(
                [str(self._programs / name), *options],
                env=os.environ,
                output=log,
                cwd=self._folder,
                stop_signal=signal.SIGKILL,
            )

    def _await(self, server: str, path: str) -> None:
        """Wait until the path is there; whoever ends meanwhile is told of."""
        deadline = time.monotonic() + _PATIENCE
        while not self._is_there(server, path):
            for name, process in self._running.items():
                if not process.running or time.monotonic() > deadline:
                    said = self.log(name).strip()[-2000:]
                    kind = _PortTaken if "address already in use" in said else PlaneFailed
                    raise kind(f"{name} did not start, or {path} was not served:\n{said}")
            time.sleep(0.05)

    def _is_there(self, server: str, path: str) -> bool:
        # Without a certificate, or with half of one, it isn't listening yet: an OSError too.
        with contextlib.suppress(OSError, http.client.HTTPException):
            trust = ssl.create_default_context(cafile=str(self._certificate))
            address = server.removeprefix("https://")
            with contextlib.closing(http.client.HTTPSConnection(address, context=trust, timeout=5)) as asking:
                asking.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
                return asking.getresponse().status == 200
        return False

    @property
    def _certificate(self) -> Path:
        return self._folder / "certificates" / "apiserver.crt"

    def _write_kubeconfig(self, server: str) -> None:
        cluster = {"server": server, "certificate-authority": str(self._certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": CONTEXT, "user": {"token": self._token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        }
        private_files.write(self.kubeconfig, json.dumps(config))


def _new_key() -> str:
    """Make the key that signs the tokens of service accounts."""
    # RFC 5915: version 1, 32 octets of private key, parameters: the curve P-256 by its object identifier.
    head, curve = bytes.fromhex("30310201010420"), bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(head + secrets.token_bytes(32) + curve).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n"
