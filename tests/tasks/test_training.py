import pytest
from prefect.states import Failed

from cxr.config import Execution
from cxr.errors import ConfigError, DiskFullError, FoldFailedError, RunError
from tasks.training import _may_be_retried, require_runner, train_fold


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FoldFailedError("the process of fold 0 was ended by SIGKILL"), True),
        (OSError("the network is away"), True),
        (RunError("the checkpoint is damaged"), False),
        (DiskFullError("no space is left"), False),
    ],
)
def test_a_fold_is_tried_again_unless_the_user_has_to_change_something(error: Exception, expected: bool) -> None:
    assert _may_be_retried(train_fold, None, Failed(data=error)) is expected  # pyright: ignore[reportArgumentType]


def test_the_runner_is_asked_for_before_anything_is_read() -> None:
    require_runner(Execution(runner="local"))
    with pytest.raises(ConfigError, match="--runner ray needs"):
        require_runner(Execution(runner="ray"))
