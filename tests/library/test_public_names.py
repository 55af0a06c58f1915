"""The public names: few, typed, documented, and cheap to import."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import freezer_sdk
from freezer_sdk import errors

SOURCE = Path(freezer_sdk.__file__)


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("statement", ["import freezer_sdk", "from freezer_sdk import Freezer, CancelToken, Backup"])
def test_importing_loads_no_heavy_library_and_no_plugin(statement: str) -> None:
    loaded = modules_after(statement)
    heavy = "stevedore cryptography blake3 rich cliff backports.zstd platformdirs asyncio concurrent.futures pyfastcdc"
    assert loaded & set(heavy.split()) == set()
    assert {name for name in loaded if name.startswith("freezer_sdk.") and name.count(".") > 1} <= {
        "freezer_sdk.engines.base",
        "freezer_sdk.modes.base",
        "freezer_sdk.services.base",
        "freezer_sdk.storages.base",
        "freezer_sdk.streams.cancel",
    }


def test_the_package_alone_imports_nothing_of_itself() -> None:
    assert {name for name in modules_after("import freezer_sdk") if name.startswith("freezer_sdk")} == {"freezer_sdk"}


def test_all_names_exist_and_dir_shows_them() -> None:
    for name in freezer_sdk.__all__:
        assert getattr(freezer_sdk, name) is not None
    assert set(freezer_sdk.__all__) <= set(dir(freezer_sdk))
    assert freezer_sdk.__all__ == sorted(freezer_sdk.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = freezer_sdk.no_such_name


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(seen) == set(freezer_sdk.__all__)
    for name, module in seen.items():
        assert getattr(sys.modules[str(module)], name) is getattr(freezer_sdk, name)


def test_every_error_is_public() -> None:
    tree = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert tree <= set(freezer_sdk.__all__)


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").replace("(T)", " ").split()
        if len(words) >= 3 and words[2].isdigit():
            drawn[words[0]] = (words[1], int(words[2]))
    classes = {
        name: (value.code, value.exit_code)
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.FreezerError) and name != "FreezerError"
    }
    assert drawn == classes


def test_public_names_have_docstrings() -> None:
    for name in freezer_sdk.__all__:
        value = getattr(freezer_sdk, name)
        assert inspect.getdoc(value), name
    for name, member in inspect.getmembers(freezer_sdk.Freezer):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name


def test_options_of_the_library_are_keywords() -> None:
    """At most the things acted on are positional."""
    positional = {}
    for name, method in inspect.getmembers(freezer_sdk.Freezer, inspect.isfunction):
        parameters = list(inspect.signature(method).parameters.values())[1:]
        positional[name] = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional["backup"] == ["paths"]
    assert positional["restore"] == ["backup", "target"]
    assert positional["verify"] == ["backup"]
    assert all(len(names) <= 2 for name, names in positional.items() if not name.startswith("_"))


def test_version() -> None:
    from importlib.metadata import version

    assert freezer_sdk.__version__ == version("freezer-sdk")


def test_the_library_can_be_imported_where_posix_modules_are_absent() -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(['fcntl', 'grp', 'pwd', 'resource'])); "
    assert "freezer_sdk.client" in modules_after(absent + "from freezer_sdk import Freezer, list_plugins, open_storage")


def test_the_reference_page_has_every_public_name() -> None:
    page = (SOURCE.parents[1] / "docs" / "reference" / "library.md").read_text()
    modules = set(re.findall(r"automodule:: (\S+)", page))
    single = set(re.findall(r"auto(?:class|function|exception):: (\S+)", page))
    missing = []
    for name in freezer_sdk.__all__:
        value = getattr(freezer_sdk, name)
        if value.__module__ not in modules and f"{value.__module__}.{name}" not in single:
            missing.append(name)
    assert missing == []
