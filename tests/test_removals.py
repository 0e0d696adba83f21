import ast

from tests.removals import PROJECT, REMOVALS


def test_every_removal_finds_what_it_takes_away_and_the_test_that_has_to_notice() -> None:
    for removal in REMOVALS:
        assert (PROJECT / removal.file).read_text().count(removal.old) == 1, removal
        ast.parse((PROJECT / removal.file).read_text().replace(removal.old, removal.new))
        file, _, name = removal.test.partition("::")
        assert name.partition("[")[0] in (PROJECT / file).read_text(), removal
