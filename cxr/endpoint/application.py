"""The paths of the endpoint, as a FastAPI application."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException as AnyHTTPException

from cxr import __version__
from cxr.endpoint import answers, openapi
from cxr.endpoint.answers import Answer, Picture
from cxr.endpoint.guard import Guard
from cxr.endpoint.intake import Intake, before
from cxr.endpoint.limits import Limits
from cxr.endpoint.listener import Listener
from cxr.endpoint.service import Service
from cxr.errors import UnreadableError
from cxr.serving.package import Package
from cxr.wording import DISCLAIMER, visible

BUSY = "the images were not predicted in time: send fewer in each request, or send it again later."
LOST = {
    404: "there is nothing at this path: GET /openapi.json lists the paths.",
    405: "this path does not take this method: GET /openapi.json lists what it takes.",
}
"""Sentences for requests that no path takes, by status."""


class Endpoint:
    """What each path does.

    Args:
        service: the model at work.
        limits: what a request may ask for.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._limits = limits
        self._intake = Intake(limits)

    async def predict(self, request: Request) -> Response:
        """Return the row of the scores for each image."""
        deadline = self._deadline()
        received = self._intake.receive(request, "images", self._limits.max_images, deadline)
        async with received as uploads, before(deadline, 429, BUSY):
            rows = await self._service.predict(uploads)
        reasons = Counter(str(row["reason"]) for row in rows if row["reason"])
        request.state.facts |= {"n_files": len(rows), "refused": dict(reasons)}
        return Answer(answers.predictions(self._service.package, rows))

    async def explain(
        self,
        request: Request,
        target: Annotated[str | None, Query(alias="class", description="Class or finding to look for.")] = None,
        opacity: Annotated[float, Query(ge=0, le=1, description="Of the map where it is strongest.")] = 0.5,
    ) -> Response:
        """Return the image beside the same image with a map of where the networks looked, as PNG.

        By default the map is that of the predicted class; of findings, of the one that is most surely predicted or is
        nearest to it. `/models` names how maps are made.
        """
        outputs = self._service.package.outputs
        if target is not None and target not in outputs:
            raise HTTPException(422, f"class must be one of {', '.join(map(visible, outputs))}.")
        deadline = self._deadline()
        async with self._intake.receive(request, "image", 1, deadline) as (upload,), before(deadline, 429, BUSY):
            picture = await self._service.explain(upload, target, opacity)
        request.state.facts |= {"n_files": 1}
        return Picture(picture)

    async def models(self) -> Response:
        """Return the model that answers: name, version, outputs and thresholds."""
        return Answer(answers.models(self._service.package))

    async def health(self) -> Response:
        """Return that the endpoint is up; it needs no token."""
        return Answer({"status": "ok"})

    async def metrics(self) -> Response:
        """Return counts of requests, seconds, refusals by reason, and drift, in the text format of Prometheus."""
        text = await self._service.in_thread(self._service.measures.text)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def refuse_file(self, request: Request, error: UnreadableError) -> Response:
        """Return the answer to a request that fails with its file."""
        self._service.measures.count_refusal(error.reason)
        request.state.facts |= {"n_files": 1, "refused": {error.reason: 1}}
        return Answer({"detail": f"a file cannot be used: {error}"}, 413 if error.reason == "too_large" else 422)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.timeout


def build(service: Service, limits: Limits, listener: Listener, example: Mapping[str, object]) -> FastAPI:
    """Return the application.

    Args:
        service: the model at work.
        limits: what a request may ask for.
        listener: which requests are answered.
        example: a row of the scores, for the description.
    """
    endpoint = Endpoint(service, limits)
    app = FastAPI(
        title="cxr",
        version=__version__,
        description=f"Predictions of a packaged model for chest X-rays. {DISCLAIMER}",
        docs_url=None,  # these pages load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            AnyHTTPException: _say_why,
            RequestValidationError: _say_which,
            UnreadableError: endpoint.refuse_file,
        },
    )
    _add_paths(app, endpoint, service.package, limits)
    openapi.complete(app.openapi(), service.package, example, has_token=listener.token is not None)
    paths = [*app.openapi()["paths"], str(app.openapi_url)]
    app.add_middleware(Guard, listener=listener, count=service.measures.count_request, paths=paths)
    return app


def _add_paths(app: FastAPI, endpoint: Endpoint, package: Package, limits: Limits) -> None:
    """Add every path with its description."""
    app.post(
        "/predict",
        responses=openapi.predicted(package) | openapi.refusals(400, 401, 408, 413, 415, 422, 429),
        openapi_extra=openapi.body("images", limits.max_images),
    )(endpoint.predict)
    app.post(
        "/explain",
        response_class=Picture,
        responses=openapi.refusals(400, 401, 408, 413, 415, 422, 429),
        openapi_extra=openapi.body("image", 1),
    )(endpoint.explain)
    app.get("/models", responses=openapi.described(package) | openapi.refusals(400, 401))(endpoint.models)
    app.get("/health", responses=openapi.healthy() | openapi.refusals(400))(endpoint.health)
    app.get("/metrics", response_class=PlainTextResponse, responses=openapi.refusals(400, 401))(endpoint.metrics)


async def _say_why(_: Request, error: AnyHTTPException) -> Response:
    """Return the sentence of a request that is refused."""
    return Answer({"detail": LOST.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _say_which(_: Request, error: RequestValidationError) -> Response:
    """Return a sentence on the parameters that are out of range."""
    faults = (f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
    return Answer({"detail": visible("; ".join(faults)) + "."}, 422)
