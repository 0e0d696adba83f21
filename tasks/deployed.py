"""Deployments that flows start: known to the server, or a sentence that says what to do."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from cxr.errors import RunError


def read_deployment(name: str) -> DeploymentResponse:
    """Return a deployment, named FLOW/DEPLOYMENT; raise RunError if the server does not know it."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(name)
        except ObjectNotFound as error:
            raise RunError(f"the Prefect server does not know the deployment {name}: type `cxr deploy`.") from error
