"""A real Kubernetes API server for the tests of this folder, and the operator on it with the chart's rights.

The session's own control plane, built from source where it is not yet; or, if USHER_E2E_CONTEXT names a
context of the kubeconfig, that cluster, in which the tests make namespaces, the CustomResourceDefinition and
roles, and take them away again. No test is skipped for want of a cluster: without one the session fails and
says why.
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import migrations
from usher_core.testing import servers, stacks

# What the tests stand on lies beside them, among the tools and with the faults, in no package.
sys.path.append(str(Path(__file__).parent))
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("tools", "faults")]

import clusters
import kubetools
import lines
import releases
from controlplane import builds, planes


@pytest.fixture(scope="session")
def helm() -> Path:
    return kubetools.find("helm")


@pytest.fixture(scope="session")
def cluster(
    helm: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[clusters.Cluster]:
    """The cluster with the ScimTenant resource in it."""
    folder = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        context = os.environ.get("USHER_E2E_CONTEXT")
        if context:
            made = clusters.Cluster(kubetools.find("kubectl"), folder, context)
        else:
            plane = stack.enter_context(planes.ControlPlane(_programs(request), folder / "controlplane"))
            made = clusters.Cluster(
                kubetools.find("kubectl"),
                folder,
                planes.CONTEXT,
                plane.kubeconfig,
                plane.audit_log,
                plane.etcd,
            )
        (crd,) = (it for it in releases.rendered(helm, "default") if it["kind"] == "CustomResourceDefinition")
        stack.enter_context(_installed(made, crd))
        yield made


def _programs(request: pytest.FixtureRequest) -> Path:
    """Build the control plane where it is not there yet, in sight of whoever waits for it."""
    capturing = request.config.pluginmanager.getplugin("capturemanager")

    def report(line: str) -> None:
        with capturing.global_and_fixture_disabled():
            print(f"controlplane: {line}", file=sys.stderr, flush=True)

    try:
        return builds.build(report)
    except builds.BuildImpossible as exc:
        pytest.exit(str(exc), returncode=1)


@contextlib.contextmanager
def _installed(cluster: clusters.Cluster, crd: clusters.Document) -> Iterator[None]:
    """Install the CustomResourceDefinition; a cluster that has tenants is not the tests' to change."""
    kind, name = "customresourcedefinition", crd["metadata"]["name"]
    was_there = cluster.kubectl("get", kind, name, "-o", "name", "--ignore-not-found")
    if was_there and (tenants := cluster.kubectl("get", "scimtenants", "--all-namespaces", "-o", "name")):
        pytest.exit(f"{cluster.context} has ScimTenants, so it is not the tests' to write in:\n{tenants}", 1)
    cluster.apply([crd])
    cluster.kubectl("wait", "--for=condition=Established", kind, name, "--timeout=30s")
    yield
    if not was_there:
        cluster.kubectl("delete", kind, name, "--wait=false")


@pytest.fixture(scope="session")
def database_urls(running: servers.Servers) -> DatabaseUrls:
    """One database for the session, as it has one operator."""
    migrations.upgrade(running.database.owner)
    return running.database


@pytest.fixture(scope="session")
def secret_values(running: servers.Servers, database_urls: DatabaseUrls) -> dict[str, str]:
    """What the chart would take out of Secrets."""
    return {"USHER_DATABASE_URL": database_urls.app, "USHER_REDIS_URL": running.redis_url}


@pytest.fixture
def stack(running: servers.Servers, database_urls: DatabaseUrls, tmp_path: Path) -> Iterator[stacks.Stack]:
    """An Usher of two api processes and a worker on the operator's store."""
    with stacks.Stack(database_urls.app, running.redis_url, tmp_path, api_processes=2) as started:
        yield started


@pytest.fixture
def namespace(cluster: clusters.Cluster) -> Iterator[str]:
    """A namespace of the test's own, for tenants."""
    with cluster.namespace() as name:
        yield name


@pytest.fixture(scope="session")
def release(
    cluster: clusters.Cluster, helm: Path, secret_values: dict[str, str]
) -> Iterator[releases.Release]:
    """The chart with its default values, by which its operator serves every namespace."""
    with cluster.namespace() as own, releases.Release(cluster, helm, own, secret_values) as made:
        yield made


@pytest.fixture
def operator(
    cluster: clusters.Cluster, release: releases.Release, namespace: str
) -> Iterator[releases.Release]:
    """The release with its operator running, as it will be for the next test too."""
    with _at_work(cluster, release, namespace):
        yield release


@pytest.fixture
def own_operator(
    cluster: clusters.Cluster,
    helm: Path,
    secret_values: dict[str, str],
    release: releases.Release,
    namespace: str,
    request: pytest.FixtureRequest,
) -> Iterator[releases.Release]:
    """A release of the test's own with its operator running, and no other one.

    By its parameter it serves the test's "namespace" or the whole "cluster", or it is "watching" Secrets too.
    """
    release.stop()
    sets = {
        "namespace": [f'operator.watchNamespaces=["{namespace}"]'],
        "cluster": [],
        "watching": ["operator.watchSecrets=true"],
    }[request.param]
    with (
        cluster.namespace() as own,
        releases.Release(cluster, helm, own, secret_values, *sets) as made,
        _at_work(cluster, made, namespace),
    ):
        yield made


@pytest.fixture
def line(cluster: clusters.Cluster, release: releases.Release, namespace: str) -> Iterator[lines.Line]:
    """The one way from the release's operator to the API server; that operator is running."""
    address = urllib.parse.urlsplit(cluster.server)
    if address.hostname != "127.0.0.1":
        pytest.skip(f"{cluster.server} is not on this machine, and its certificate not made out to us")
    release.stop()
    with lines.Line(address.port or 443) as made:
        release.server = f"https://127.0.0.1:{made.port}"
        try:
            with _at_work(cluster, release, namespace):
                yield made
        finally:
            release.server = None
            release.stop()


@contextlib.contextmanager
def _at_work(cluster: clusters.Cluster, release: releases.Release, namespace: str) -> Iterator[None]:
    """Have the operator run; let it take away the test's tenants, and fail if it was refused anything."""
    before = len(release.requests())
    release.start()
    yield
    if release.running:
        cluster.run("delete", "scimtenants", "--all", "-n", namespace, "--timeout=120s")
    assert [it for it in release.requests()[before:] if it.status in (401, 403)] == []
