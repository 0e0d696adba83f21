"""`python -m cxr`: the verbs that need neither Prefect nor Great Expectations."""

from cxr.cli.main import run_core

run_core()
