"""The verbs of the command line, those of two words too."""

from collections.abc import Iterator

from cyclopts import App

from flows.cli import app


def _below(parent: App, words: tuple[str, ...]) -> Iterator[tuple[str, App]]:
    for name in parent:
        if not name.startswith("-"):
            yield " ".join((*words, name)), parent[name]
            yield from _below(parent[name], (*words, name))


VERBS = dict(_below(app, ()))
"""By name: `train`, `package`, `package push`, …"""
