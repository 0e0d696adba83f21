"""What is set up once at the Prefect server: work pools, and automations.

The server marks a silent run as crashed, and posts a message about each run that ended badly. An automation acts at
least once: a busy server may post a message twice.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker

from cxr.errors import ConfigError

GIVE_UP = "cxr: mark silent runs as crashed"
TELL = "cxr: tell of runs that ended badly"
FEEDBACK_DEPLOYMENT = "feedback/default"
MESSAGE = (
    '{"text": {{ ("cxr: " ~ flow.name ~ " " ~ flow_run.name ~ " ended as " ~ event.resource["prefect.state-name"]'
    ' ~ ": " ~ event.resource["prefect.state-message"] ~ " " ~ (flow_run | ui_url)) | tojson }}}'
)
"""The body of a message, in the form that incoming webhooks of Slack, Mattermost and Teams take."""


def _events(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


SIGNS = _events("Pending", "heartbeat")
"""After one of these events a run has to give another sign, or to end."""
ENDED_BADLY = _events("Failed", "Crashed", "Held", "SurelyBelow")
OWES_NOTHING = _events("Completed", "Cancelled", "Scheduled", "AwaitingConcurrencySlot", "Paused") | ENDED_BADLY


def has_pool(name: str) -> bool:
    """Return whether the server has a work pool."""
    with get_client(sync_client=True) as client:
        return any(pool.name == name for pool in client.read_work_pools())


def create_pools(purposes: Mapping[str, str]) -> None:
    """Create the work pools that do not exist yet, for workers that start a process for each run; describe them all.

    Args:
        purposes: what each pool is for, as Prefect's UI shows it, by name.
    """
    with get_client(sync_client=True) as client:
        for name, purpose in purposes.items():
            pool = {"name": name, "type": "process", "base_job_template": ProcessWorker.get_default_base_job_template()}
            with suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate.model_validate(pool))
            client.update_work_pool(name, WorkPoolUpdate(description=purpose))


def set_automations_up(silent_for_s: int, notify: str | None) -> list[str]:
    """Create or update the automations of the server that Prefect's settings name.

    Args:
        silent_for_s: a run without a sign of life for this long is marked as crashed.
        notify: address of a webhook; the server keeps it encrypted in its database. None leaves it as it is.

    Returns:
        A sentence for each automation that was set up.

    Raises:
        ConfigError: `notify` is not an address.
    """
    if notify is not None and not notify.startswith(("http://", "https://")):
        raise ConfigError(f"--notify needs the address of a webhook, http://… or https://…, got {notify!r}.")
    _put(give_up_silent_runs(silent_for_s))
    done = [f"runs without a sign of life for {silent_for_s} s are marked as crashed"]
    if notify is not None:
        _put(tell_of_bad_ends(notify))
        done.append("runs that failed, crashed or are held are reported to the webhook")
    return done


def give_up_silent_runs(silent_for_s: int) -> AutomationCore:
    """Return the automation that marks a run as crashed if it was taken by a worker, or has begun, and falls silent."""
    trigger = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "after": SIGNS,
        "expect": _events("heartbeat") | OWES_NOTHING,
        "posture": Posture.Proactive,
        "threshold": 1,
        "within": timedelta(seconds=silent_for_s),
    }
    message = f"no sign of life for {silent_for_s} s: the process or its machine has died"
    action = ChangeFlowRunState.model_validate({"state": StateType.CRASHED, "name": "Crashed", "message": message})
    return AutomationCore(name=GIVE_UP, trigger=EventTrigger.model_validate(trigger), actions=[action])


def tell_of_bad_ends(address: str) -> AutomationCore:
    """Return the automation that posts a message to a webhook for each run that failed, crashed, or is held."""
    webhook = Webhook.model_validate({"url": address, "headers": {"content-type": "application/json"}})
    trigger = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "expect": ENDED_BADLY,
        "posture": Posture.Reactive,
        "threshold": 1,
        "within": timedelta(0),
    }
    action = {"block_document_id": webhook.save("cxr-notify", overwrite=True), "payload": MESSAGE}
    return AutomationCore(
        name=TELL, trigger=EventTrigger.model_validate(trigger), actions=[CallWebhook.model_validate(action)]
    )


def starts_retrainings() -> bool:
    """Return whether runs of the deployment feedback/default start retrainings by now."""
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        return bool(client.read_deployment_by_name(FEEDBACK_DEPLOYMENT).parameters.get("retrain"))
    return False


def set_retraining_up() -> str:
    """Have runs of feedback/default start retrainings; the deployment has to be there. Return a sentence."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(FEEDBACK_DEPLOYMENT)
        update = DeploymentUpdate(parameters=deployment.parameters | {"retrain": True})
        client.update_deployment(deployment.id, update)
    return f"a run of {FEEDBACK_DEPLOYMENT} that finds a model surely below its promise starts retrain/default"


def _put(wanted: AutomationCore) -> None:
    """Create an automation, or update the one of the same name; an equal one is left alone and keeps its state."""
    with get_client(sync_client=True) as client:
        existing = next(iter(client.read_automations_by_name(wanted.name)), None)
        if existing is None:
            client.create_automation(wanted)
        elif _facts(existing) != _facts(wanted):
            client.update_automation(existing.id, wanted)


def _facts(automation: AutomationCore) -> dict[str, object]:
    return automation.model_dump(mode="json", include={"name", "trigger", "actions"}, exclude={"trigger": {"id"}})
