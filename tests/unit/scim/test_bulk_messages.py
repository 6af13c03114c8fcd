"""A bulk request is read as it is meant, and its references lead to the creates that they name."""

from __future__ import annotations

from typing import Any

import pytest

from usher_core import errors
from usher_core.scim import bulks

ADA = "11111111-1111-7111-8111-111111111111"
BOB = "22222222-2222-7222-8222-222222222222"
CREATES = {"ada": bulks.Create(0, ADA), "b/o b": bulks.Create(4, BOB)}


def test_the_names_of_a_message_may_be_of_any_case() -> None:
    operation = {"METHOD": "put", "bulkid": "a", "Path": "/Users/1", "Version": "v", "DATA": {"Title": "x"}}
    message = bulks.parse({"OPERATIONS": [operation], "FAILONERRORS": 2}, max_operations=1)
    assert message == bulks.Message((bulks.Operation("PUT", "/Users/1", "a", "v", {"Title": "x"}),), 2)


def test_a_bulk_id_may_be_given_to_one_create_only_and_to_anything_else() -> None:
    operations = [{"method": method, "bulkId": "a"} for method in ("POST", "PUT", "PATCH", "DELETE")]
    assert len(bulks.parse({"Operations": operations}, max_operations=9).operations) == 4
    with pytest.raises(errors.InvalidValue, match="a"):
        bulks.parse({"Operations": [*operations, operations[0]]}, max_operations=9)


@pytest.mark.parametrize(
    ("path", "resolved", "needs"),
    [
        pytest.param("/Users", "/Users", [], id="none"),
        pytest.param("/Users/bulkId:ada", f"/Users/{ADA}", [0], id="a resource"),
        pytest.param("Users/BULKID:ada", f"Users/{ADA}", [0], id="in capitals"),
        pytest.param("/Users/bulkId%3Aada?attributes=id", f"/Users/{ADA}", [0], id="encoded, with a query"),
        pytest.param("/Users/xbulkId:ada", "/Users/xbulkId:ada", [], id="not the whole segment"),
    ],
)
def test_a_reference_in_a_path(path: str, resolved: str, needs: list[int]) -> None:
    found = bulks.References(CREATES)
    assert found.in_path(path) == resolved
    assert list(found.needs) == needs


@pytest.mark.parametrize(
    ("data", "resolved", "needs"),
    [
        pytest.param(None, None, [], id="no data"),
        pytest.param("bulkId:ada", "bulkId:ada", [], id="data that can't be"),
        pytest.param({"a": [{"value": "bulkId:b/o b"}]}, {"a": [{"value": BOB}]}, [4], id="a member"),
        pytest.param({"manager": "bulkId:ada"}, {"manager": ADA}, [0], id="a plain string"),
        pytest.param({"members": ["bulkId:ada"]}, {"members": [ADA]}, [0], id="in a list"),
        pytest.param({"$ref": "bulkId:ada"}, {"$ref": ADA}, [0], id="a whole $ref"),
        pytest.param({"$ref": "../Users/bulkId:ada"}, {"$ref": f"../Users/{ADA}"}, [0], id="a $ref's end"),
        pytest.param({"a": "../Users/bulkId:ada"}, {"a": "../Users/bulkId:ada"}, [], id="no $ref"),
        pytest.param({"a": "see bulkId:ada"}, {"a": "see bulkId:ada"}, [], id="within a text"),
        pytest.param({"bulkId:ada": [1, None, True]}, {"bulkId:ada": [1, None, True]}, [], id="no text"),
        pytest.param({"path": '"bulkId:ada"'}, {"path": '"bulkId:ada"'}, [], id="no PATCH"),
    ],
)  # fmt: skip
def test_a_reference_in_data(data: Any, resolved: Any, needs: list[int]) -> None:
    found = bulks.References(CREATES)
    assert found.in_data(data) == resolved
    assert list(found.needs) == needs


@pytest.mark.parametrize(
    ("patch", "resolved", "needs"),
    [
        pytest.param(
            {"operations": [{"PATH": 'members[value eq "bulkId:ada" or value eq "bulkId:b/o b"]'}]},
            {"operations": [{"PATH": f'members[value eq "{ADA}" or value eq "{BOB}"]'}]},
            [0, 4],
            id="in a filter",
        ),
        pytest.param(
            {"Operations": [{"path": "members[value eq bulkId:ada or (value eq BULKID:ada)]"}]},
            {"Operations": [{"path": f"members[value eq {ADA} or (value eq {ADA})]"}]},
            [0],
            id="in a filter without quotes",
        ),
        pytest.param(
            {"Operations": [{"path": r'members[display eq "to bulkId:nil" or display eq "\" bulkId:nil"]'}]},
            {"Operations": [{"path": r'members[display eq "to bulkId:nil" or display eq "\" bulkId:nil"]'}]},
            [],
            id="within a text in a filter",
        ),
        pytest.param(
            {"Operations": [{"path": "members[value eq xbulkId:nil]"}]},
            {"Operations": [{"path": "members[value eq xbulkId:nil]"}]},
            [],
            id="not the whole value in a filter",
        ),
        pytest.param(
            {"Operations": [{"path": "members", "value": {"value": "bulkId:ada"}}, 7]},
            {"Operations": [{"path": "members", "value": {"value": ADA}}, 7]},
            [0],
            id="in a value",
        ),
        pytest.param([{"path": '"bulkId:nil"'}], [{"path": '"bulkId:nil"'}], [], id="no PATCH message"),
        pytest.param({"Operations": {"path": 1}}, {"Operations": {"path": 1}}, [], id="no list"),
    ],
)
def test_a_reference_in_a_patch(patch: Any, resolved: Any, needs: list[int]) -> None:
    found = bulks.References(CREATES)
    assert found.in_patch(patch) == resolved
    assert list(found.needs) == needs


def test_a_reference_to_nothing_is_named() -> None:
    with pytest.raises(errors.InvalidValue, match="nobody"):
        bulks.References(CREATES).in_data({"members": [{"value": "bulkId:nobody"}]})
    with pytest.raises(errors.InvalidValue, match="nobody"):
        bulks.References(CREATES).in_patch({"Operations": [{"path": "members[value eq bulkId:nobody]"}]})
