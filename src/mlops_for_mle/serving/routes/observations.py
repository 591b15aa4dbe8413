"""``/observations``: the rows of the contract's table as a resource."""

import re
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Header, Path, Query, Response

from mlops_for_mle.contract import Contract
from mlops_for_mle.serving.http.problems import FieldError, ProblemError, unprocessable
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.routes.json_bodies import (
    JsonBody,
    component,
    json_answer,
    json_request,
)
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.observation_filters import read_filters
from mlops_for_mle.serving.stores.observation_models import ObservationModels
from mlops_for_mle.serving.stores.observation_store import Observation, ObservationStore
from mlops_for_mle.serving.stores.route_database import RouteDatabase

PREFIX = "/observations"

_JSON = "application/json"
_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_ETAG_TEXT = "The entity tag, for If-Match"

_UNAVAILABLE = {"503": "No release is loaded, or the database does not answer"}
_WRITING = {
    "409": "A rule of the table forbids it",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "It does not fit the contract; names every field that is wrong",
    "429": "The server works on as many requests as it may",
    **_UNAVAILABLE,
}

ObservationKey = Annotated[int, Path(description="The row's primary key")]
IfMatch = Annotated[
    str | None,
    Header(description="The entity tag that the client has seen, several of them, or *"),
]


def observations_router(services: Services) -> APIRouter:
    """The routes."""
    store = ObservationStore(RouteDatabase())
    models_of = _Models()
    router = APIRouter(prefix=PREFIX, tags=["observations"])

    def contract() -> Contract:
        return services.data_plane.release().contract

    @router.post(
        "",
        summary="Create an observation",
        description="With an Idempotency-Key the same request can be sent again, for seven days, "
        "and is answered as it was the first time, without another row.",
        status_code=HTTPStatus.CREATED,
        response_class=Response,
        openapi_extra=json_request(component("NewObservation")),
        responses={
            201: json_answer(
                "The new row",
                component("Observation"),
                Location="Its path",
                ETag=_ETAG_TEXT,
                Idempotency_Replayed="true where an earlier request had made the row",
            ),
            **problem_responses(_WRITING),
        },
    )
    def create(
        document: JsonBody,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="Names the request: 1 to 255 visible characters of ASCII",
                json_schema_extra={"pattern": f"^{_KEY.pattern}$"},
            ),
        ] = None,
    ) -> Response:
        if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
            allowed = "1 to 255 visible characters of ASCII"
            raise unprocessable(
                [FieldError("Idempotency-Key", "is no key", idempotency_key[:80], allowed)]
            )
        models = models_of(contract())
        values = models.read_new(document)
        created = store.create(models.contract, values, idempotency_key)
        headers = {"Location": f"{PREFIX}/{created.observation.key}"}
        if created.is_replayed:
            headers["Idempotency-Replayed"] = "true"
        return _answer(created.observation, HTTPStatus.CREATED, headers)

    @router.get(
        "",
        summary="List observations",
        description="In the order of their keys. A page that is not the last one names the next "
        "one in `next` and in the header Link.",
        response_class=Response,
        responses={
            200: json_answer(
                "A page",
                {
                    "type": "object",
                    "properties": {
                        "observations": {"type": "array", "items": component("Observation")},
                        "next": {"type": ["string", "null"]},
                    },
                    "required": ["observations", "next"],
                },
                Link="The next page",
            ),
            **problem_responses({"422": "A parameter is wrong", **_UNAVAILABLE}),
        },
    )
    def page(
        conditions: Annotated[
            list[str] | None,
            Query(
                alias="filter",
                max_length=20,
                description="A condition on a column: its name, one of = != < <= > >=, a value, "
                "such as `length>=4.5`. All conditions must hold.",
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many rows")] = 50,
        order: Annotated[
            Literal["asc", "desc"], Query(description="desc gives the newest first")
        ] = "asc",
        after: Annotated[
            int | None, Query(description="The key of the last row of the page before")
        ] = None,
    ) -> Response:
        known = contract()
        filters = read_filters(known, conditions or ())
        rows = store.page(known, filters, after, limit + 1, order == "desc")
        shown = rows[:limit]
        following: str | None = None
        headers = {}
        if len(rows) > limit:
            query = [("filter", one) for one in conditions or ()]
            query += [("limit", str(limit)), ("order", order), ("after", str(shown[-1].key))]
            following = f"{PREFIX}?{urlencode(query)}"
            headers["Link"] = f'<{following}>; rel="next"'
        body = {"observations": [msgspec.Raw(one.body) for one in shown], "next": following}
        return Response(msgspec.json.encode(body), media_type=_JSON, headers=headers)

    @router.get(
        "/{key}",
        summary="Read an observation",
        response_class=Response,
        responses={
            200: json_answer("The row", component("Observation"), ETag=_ETAG_TEXT),
            304: {"description": "It is as the client has seen it (If-None-Match)"},
            **problem_responses(
                {"404": "There is no such row", "422": "The key is no number", **_UNAVAILABLE}
            ),
        },
    )
    def read(
        key: ObservationKey, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        found = store.find(contract(), key)
        known = _tags(if_none_match, weak=True)
        if "*" in known or found.tag in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": found.tag})
        return _answer(found)

    @router.patch(
        "/{key}",
        summary="Change an observation, for example correct its label",
        description="Fields that are left out stay as they are.",
        response_class=Response,
        openapi_extra=json_request(component("ObservationChange")),
        responses={
            200: json_answer("The row as it is now", component("Observation"), ETag=_ETAG_TEXT),
            **problem_responses(
                {
                    "404": "There is no such row",
                    "412": "It was changed meanwhile",
                    "428": "If-Match is missing",
                    **_WRITING,
                }
            ),
        },
    )
    def change(key: ObservationKey, document: JsonBody, if_match: IfMatch = None) -> Response:
        if if_match is None:
            raise ProblemError(
                HTTPStatus.PRECONDITION_REQUIRED,
                "Send the entity tag of the observation that you have read as If-Match, so that "
                "nobody's change is lost",
            )
        models = models_of(contract())
        changes = models.read_change(document)
        return _answer(store.change(models.contract, key, changes, _tags(if_match)))

    @router.delete(
        "/{key}",
        summary="Delete an observation",
        description="With If-Match only as the client has seen it.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses={
            204: {"description": "It is gone"},
            **problem_responses(
                {
                    "404": "There is no such row",
                    "412": "It was changed meanwhile",
                    **_WRITING,
                }
            ),
        },
    )
    def delete(key: ObservationKey, if_match: IfMatch = None) -> Response:
        store.delete(contract(), key, _tags(if_match) if if_match is not None else _any_tag())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router


class _Models:
    """The models of the contract in service, made once for each."""

    def __init__(self) -> None:
        self._current: ObservationModels | None = None

    def __call__(self, contract: Contract) -> ObservationModels:
        current = self._current
        if current is None or current.contract is not contract:
            self._current = current = ObservationModels(contract)
        return current


def _answer(
    observation: Observation,
    status: HTTPStatus = HTTPStatus.OK,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(
        observation.body,
        status,
        headers={"ETag": observation.tag, **(headers or {})},
        media_type=_JSON,
    )


def _tags(header: str | None, *, weak: bool = False) -> frozenset[str]:
    """The entity tags of a header; weak ones match only where that is allowed (RFC 9110)."""
    if header is None:
        return frozenset()
    if header.strip() == "*":
        return _any_tag()
    found = _ETAG.findall(header)
    return frozenset(one.removeprefix("W/") for one in found if weak or not one.startswith("W/"))


def _any_tag() -> frozenset[str]:
    return frozenset({"*"})
