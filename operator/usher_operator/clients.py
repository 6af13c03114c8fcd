"""The connection to the Kubernetes API, for what kopf does not do: Secrets and ConfigMaps.

`vaults` and `sources` ask through it. Invariant: an error tells the status alone, for the API server's own
words may quote a Secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import structlog
from kubernetes.aio import client, config

from usher_core import errors
from usher_core.tenants import sources, vaults
from usher_core.tenants.manifests import GROUP, VERSION
from usher_operator import metrics

REQUEST_TIMEOUT = 15.0  # seconds
RETRY = 2.0  # seconds

log = structlog.get_logger(__name__)

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class KubernetesUnavailable(vaults.VaultUnavailable, sources.SourceUnavailable):
    """The API server can't be reached or refused; `status` is its answer, `None` without one.

    `retry_after`: the seconds after which it wants to be asked again, 0 if it didn't say.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_refusal(self) -> bool:
        """Whether asking again at once is of no use: a right is missing, or a value is not taken."""
        return self.status in (400, 401, 403, 422)


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn the client's errors into `KubernetesUnavailable`; `what` says what was asked for."""
    try:
        yield
    except client.ApiException as exc:
        metrics.REFUSED.labels(str(exc.status)).inc()
        raise KubernetesUnavailable(
            f"{what}: the API server answered {exc.status}", exc.status, _retry_after(exc)
        ) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        metrics.REFUSED.labels("none").inc()
        raise KubernetesUnavailable(f"{what}: {type(exc).__name__}") from None


def _retry_after(exc: client.ApiException) -> float:
    try:
        return float((exc.headers or {}).get("Retry-After", 0))
    except ValueError:
        return 0.0  # a date, which no API server sends


async def connect() -> client.ApiClient:
    """Log in as the pod's service account, or elsewhere by the kubeconfig.

    Raises:
        ConfigurationInvalid: there is neither.
    """
    configuration = client.Configuration()
    try:
        if _in_pod():
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=os.environ.get("KUBECONFIG"), client_configuration=configuration
            )
    except (config.ConfigException, OSError) as exc:
        raise errors.ConfigurationInvalid(
            f"no way to the Kubernetes API: run in a pod with a service account, or set KUBECONFIG ({exc})"
        ) from exc
    configuration.proxy = configuration.proxy or proxy_of(configuration.host)
    # Else each request looks for a .netrc, which is slow, and might send what is in it as a login.
    configuration.client_session_kwargs = {"trust_env": False}
    return client.ApiClient(configuration=configuration)


def proxy_of(url: str) -> str | None:
    """Find the proxy on the way to a URL, as the environment names it (HTTPS_PROXY, NO_PROXY)."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname is None or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies_environment().get(parts.scheme)


async def require_crd(api: client.ApiClient) -> None:
    """Insist on the ScimTenant resource, once, at start; an API server that is away is waited for.

    Raises:
        ConfigurationInvalid: it is not installed, or the API server refuses to tell.
    """
    while True:
        try:
            with asking(f"the resources of {GROUP}/{VERSION}"):
                found = await client.CustomObjectsApi(api).get_api_resources(
                    GROUP, VERSION, _request_timeout=REQUEST_TIMEOUT
                )
        except KubernetesUnavailable as exc:
            if exc.is_refusal:
                raise errors.ConfigurationInvalid(str(exc)) from exc
            if exc.status == 404:
                names = []
                break
            log.warning("API server is away", reason=str(exc))
            await asyncio.sleep(max(exc.retry_after, RETRY))
        else:
            names = [resource.name for resource in found.resources]
            break
    if "scimtenants" not in names:
        raise errors.ConfigurationInvalid(
            f"the CustomResourceDefinition scimtenants.{GROUP} with the version {VERSION} is not installed"
        )


def _in_pod() -> bool:
    return _SERVICE_ACCOUNT.exists()
