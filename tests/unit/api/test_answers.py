"""Which media type answers have: SCIM's, unless the client would rather have plain JSON."""

from __future__ import annotations

import pytest

from usher_api import answers


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        pytest.param(None, answers.SCIM, id="nothing said"),
        pytest.param("", answers.SCIM, id="empty"),
        pytest.param("application/scim+json", answers.SCIM, id="SCIM"),
        pytest.param("application/json", answers.JSON, id="JSON alone"),
        pytest.param("APPLICATION/JSON; charset=utf-8", answers.JSON, id="any case, a parameter"),
        pytest.param("*/*", answers.SCIM, id="anything"),
        pytest.param("application/*", answers.SCIM, id="any application"),
        pytest.param("application/json, application/scim+json", answers.SCIM, id="both"),
        pytest.param("application/json, text/plain, */*", answers.SCIM, id="both, one by a range"),
        pytest.param("application/json, */*;q=0.8", answers.JSON, id="JSON before anything"),
        pytest.param("application/json;q=0.9, application/*", answers.SCIM, id="anything before JSON"),
        pytest.param("application/scim+json;q=0.5, application/json", answers.JSON, id="JSON better"),
        pytest.param("application/scim+json, application/json;q=0.5", answers.SCIM, id="SCIM better"),
        pytest.param("application/scim+json;q=0, */*", answers.JSON, id="SCIM not at all"),
        pytest.param(
            "application/scim+json;q=0.0,application/json;q=0.001", answers.JSON, id="JSON if need be"
        ),
        pytest.param("application/json ; version=1 ; q=0.2 , */* ; q=0.1", answers.JSON, id="spaces"),
        pytest.param("text/html", answers.SCIM, id="neither"),
        pytest.param("application/scim+json;q=0, application/json;q=0", answers.SCIM, id="none of the two"),
        pytest.param("application/json;q=nan", answers.JSON, id="a quality that is none"),
        pytest.param("application/json;q=9, application/scim+json", answers.SCIM, id="a quality too high"),
        pytest.param(";;,=,*/q=1", answers.SCIM, id="nonsense"),
    ],
)
def test_the_media_type_is_the_one_that_the_client_likes_best(accept: str | None, chosen: str) -> None:
    assert answers.media_type(accept) == chosen
