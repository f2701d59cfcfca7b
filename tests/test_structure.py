"""The direction of imports: common knows nothing of its siblings, they nothing of each other."""

import ast
import re
from pathlib import Path

import pytest
from order import COMMANDS, LONGEST

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"analysis", "common", "finetune"}
MAY_IMPORT = {"common": {"common"}, "analysis": {"analysis", "common"}}
MAY_IMPORT["finetune"] = {"finetune", "common"}


def imported(nodes: list[ast.AST]) -> set[str]:
    """Our own top-level packages that import statements name."""
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} & PACKAGES


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_no_sibling_but_common(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        found = imported(list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
        assert found <= MAY_IMPORT[package], path


def test_run_imports_only_common_before_it_knows_the_task() -> None:
    assert imported(ast.parse((ROOT / "run.py").read_text(encoding="utf-8")).body) == {"common"}


def test_imports_are_absolute() -> None:  # or the tests above would not see them
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_files_of_tests_have_names_of_their_own() -> None:  # pytest imports them by these
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_files_that_come_first_are_there_and_those_that_run_commands_are_together() -> None:
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(LONGEST) <= set(texts)
    of_commands = re.compile(r"^from running import .*\b(command|forked|several)\b", re.MULTILINE)
    assert {name for name, text in texts.items() if of_commands.search(text)} == set(COMMANDS)
