"""The settings of every process, read once from the environment (`USHER_*`).

Durations are in seconds unless a name says otherwise. A value that can't work is refused at start
with the name of the variable.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pydantic
import pydantic_settings

from usher_core import errors

Networks: TypeAlias = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


class Settings(pydantic_settings.BaseSettings):
    """What a process of Usher can be told; each field is the environment variable `USHER_<NAME>`."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="USHER_", extra="ignore", frozen=True)

    database_url: str = pydantic.Field(description="PostgreSQL as the role usher_app, postgresql://…")
    redis_url: str = pydantic.Field(description="Valkey or Redis, redis://… or rediss://…")
    public_url: str | None = pydantic.Field(
        default=None,
        description="Scheme and host under which clients reach the api; the request's own when unset.",
    )
    trusted_proxies: Annotated[Networks, pydantic_settings.NoDecode] = pydantic.Field(
        default=(),
        description="Addresses and networks of the proxies whose Forwarded and X-Forwarded-* are believed.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_dir: Path | None = pydantic.Field(
        default=None, description="Folder in which the processes of one service share their metrics."
    )

    database_pool_size: int = pydantic.Field(default=8, ge=1, le=200)
    statement_timeout: float = pydantic.Field(default=5.0, gt=0, description="Longest read.")

    apply_wait: float = pydantic.Field(
        default=25.0, gt=0, le=55, description="How long a request waits for the outcome of its change."
    )
    shared_writes: int = pydantic.Field(
        default=4,
        ge=1,
        description="Writes of one tenant under way in an api process while other tenants write too.",
    )
    max_body_bytes: int = pydantic.Field(default=1_048_576, ge=1024)
    bulk_max_operations: int = pydantic.Field(
        default=1000, ge=1, le=10_000, description="Operations in one bulk request."
    )
    bulk_max_payload: int = pydantic.Field(
        default=1_048_576, ge=1024, description="Largest body of a bulk request, in bytes."
    )
    max_page_size: int = pydantic.Field(default=200, ge=1, le=1000)
    default_page_size: int = pydantic.Field(default=100, ge=1, le=1000)

    batch_size: int = pydantic.Field(default=24, ge=1, le=1000, description="Changes in one transaction.")
    drain_slice: float = pydantic.Field(
        default=1.0, gt=0, description="How long a drain goes on while another tenant waits."
    )
    drain_lifetime: float = pydantic.Field(default=30.0, gt=0, description="Longest run of one drain.")
    drain_linger: float = pydantic.Field(
        default=5.0, ge=0, description="How long a drain waits on an idle stream before it gives it up."
    )
    alone_attempts: int = pydantic.Field(
        default=3, ge=1, description="Attempts at one change alone before it becomes a dead letter."
    )
    sweep_interval: float = pydantic.Field(default=2.0, gt=0)
    change_log_months: int = pydantic.Field(default=13, ge=1, description="Months of the change log to keep.")
    worker_processes: int = pydantic.Field(
        default=1, ge=1, le=64, description="Processes of a worker that drain, each one tenant at a time."
    )
    worker_max_jobs: int = pydantic.Field(
        default=0, ge=0, description="Drains after which a worker process is replaced; 0 is never."
    )
    worker_max_megabytes: int = pydantic.Field(
        default=0, ge=0, description="Resident memory beyond which a worker process is replaced; 0 is never."
    )
    worker_metrics_port: int = pydantic.Field(
        default=0, ge=0, le=65535, description="Port of a worker's /metrics and /healthz; 0 serves none."
    )

    @pydantic.field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return value

    @pydantic.field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://")):
            raise ValueError("must start with redis:// or rediss://")
        return value

    @pydantic.field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ipaddress.ip_network(item) for one in value.split(",") if (item := one.strip()))
        except ValueError:
            raise ValueError(
                "must be addresses and networks such as 10.0.0.0/8, with no bits beyond the prefix and "
                "with commas between them"
            ) from None


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigurationInvalid: naming every variable that is missing or wrong, never its value.
    """
    try:
        return Settings()
    except pydantic.ValidationError as exc:
        wrong = "; ".join(f"USHER_{str(e['loc'][0]).upper()}: {e['msg']}" for e in exc.errors())
        raise errors.ConfigurationInvalid(f"settings: {wrong}") from None
