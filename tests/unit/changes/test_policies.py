"""A tenant's policy is read from its row, and says what it refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from usher_core import errors
from usher_core.changes import policies
from usher_core.tenants import configs, specs


@pytest.mark.parametrize(
    "name",
    [
        "ada@example.com",
        "ada@corp.local",
        "ada@localhost",
        "ada+scim@example.com",
        "åda.λόγος@例え.jp",
        "o'hara&sons/ops@example.com",
        "a@b",
        "a" * 242 + "@example.com",
        "na\u200cme@example.com",
    ],
)
def test_an_address_is(name: str) -> None:
    assert policies.is_address(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param("ada", id="no @"),
        pytest.param("@example.com", id="nothing before"),
        pytest.param("ada@", id="nothing behind"),
        pytest.param("ada@x@example.com", id="two"),
        pytest.param("ada lovelace@example.com", id="a space"),
        pytest.param(" ada@example.com", id="a space in front"),
        pytest.param("ada@example.com\n", id="a line's end"),
        pytest.param("ada\u00a0l@example.com", id="a space that does not break"),
        pytest.param("ada\x07@example.com", id="a control character"),
        pytest.param("a" * 243 + "@example.com", id="too long"),
        pytest.param(None, id="nothing"),
    ],
)
def test_no_address_is(name: Any) -> None:
    assert not policies.is_address(name)
    with pytest.raises(errors.InvalidValue, match=r"userName.*ada@example\.com"):
        policies.require_address(name)


def test_the_actions_are_those_of_the_manifest() -> None:
    assert set(policies.ACTIONS) == set(specs.ALL_ACTIONS)


@pytest.mark.parametrize("action", sorted(policies.ACTIONS))
def test_an_action_that_is_left_out_is_named(action: str) -> None:
    policies.require(policies.ACTIONS, action)
    with pytest.raises(errors.Forbidden, match=action):
        policies.require(set(policies.ACTIONS) - {action}, action)


def test_the_policy_of_an_empty_row_is_that_of_the_default_configuration() -> None:
    assert policies.from_document({}) == policies.Policy()
    assert policies.from_document(configs.to_document(configs.TenantConfig())) == policies.Policy()


def test_every_switch_of_a_configuration_reaches_the_policy() -> None:
    config = configs.TenantConfig(
        actions=frozenset({"DeleteUsers"}),
        user_name_format="Any",
        revive_inactive=False,
        deleted_retention=timedelta(0),
    )
    assert policies.from_document(configs.to_document(config)) == policies.Policy(
        actions=frozenset({"DeleteUsers"}), email_names=False, revive_inactive=False, keep_deleted=False
    )


@pytest.mark.parametrize(("text", "keeps"), [("0s", False), ("0h0m", False), ("1s", True), ("10h", True)])
def test_a_retention_of_nothing_keeps_nothing(text: str, *, keeps: bool) -> None:
    assert policies.from_document({"deleted_retention": text}).keep_deleted is keeps
