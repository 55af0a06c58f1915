"""Plug-ins are found by name, checked at load, and every fault names the distribution."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

import freezer_sdk
from freezer_sdk import ConfigurationError, PluginError, PluginNotFound, PluginUnavailable, list_plugins
from freezer_sdk.compressors.base import Compressor
from freezer_sdk.plugins import COMPRESSOR, KINDS, STORAGE, PluginRegistry, reference_page

Site = Any

GOOD = """
    from freezer_sdk.compressors.base import Compressor
    from freezer_sdk.options import Option

    class Base(Compressor):
        name = "good"
        api_version = 1
        summary = "copies"
        id = "good"
        levels = (0, 9)
        default_level = 1
        options = (Option(name="strength", type="int", default=3, help="how much"),
                   Option(name="token", secret=True, help="a secret"))

        def __init__(self, *, strength, token):
            self.strength = strength
            self.token = token

        def compress(self, data, *, level=None): return bytes(data)
        def decompress(self, data, *, size): return bytes(data)
        def encoder(self, *, level=None): raise AssertionError
        def decoder(self): raise AssertionError
"""


def with_fault(fault: str) -> str:
    return GOOD + f"\n    class Faulty(Base):\n        {fault}\n"


def test_loads_by_name_and_builds_with_converted_options(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_copy:Base"}, acme_copy=GOOD)
    registry = site.registry()
    assert registry.names(COMPRESSOR) == ["good"]
    plugin = registry.load(COMPRESSOR, "good")
    assert issubclass(plugin, Compressor)
    built = registry.build(COMPRESSOR, "good", {"strength": "7"})
    assert built.strength == 7  # type: ignore[attr-defined]


def test_only_the_plugin_that_is_asked_for_is_imported(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_good:Base"}, acme_good=GOOD)
    site.install("acme-other", "1.0", {"compressors: other": "acme_other:Other"}, acme_other="raise SystemExit(7)")
    site.registry().load(COMPRESSOR, "good")
    assert "acme_good" in sys.modules
    assert "acme_other" not in sys.modules


def test_several_names_may_lead_to_one_class(site: Site) -> None:
    points = {"compressors: good": "acme_alias:Base", "compressors: better": "acme_alias:Base"}
    site.install("acme-copy", "2.1", points, acme_alias=GOOD)
    registry = site.registry()
    assert registry.load(COMPRESSOR, "better") is registry.load(COMPRESSOR, "good")
    assert [(info.name, info.alias_of) for info in registry.installed(COMPRESSOR)] == [
        ("better", "good"),
        ("good", None),
    ]


def test_unknown_name_lists_what_there_is(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_copy:Base"}, acme_copy=GOOD)
    with pytest.raises(PluginNotFound, match="no compressor 'bad'") as caught:
        site.registry().load(COMPRESSOR, "bad")
    assert caught.value.hint is not None
    assert "good" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(PluginNotFound):
        site.registry().describe(STORAGE, "good")


def test_two_distributions_with_one_name_are_both_named(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_one:Base"}, acme_one=GOOD)
    site.install("other-copy", "0.3", {"compressors: good": "acme_two:Base"}, acme_two=GOOD)
    with pytest.raises(PluginError, match="claimed by two distributions") as caught:
        site.registry().load(COMPRESSOR, "good")
    assert "acme-copy 2.1" in caught.value.message
    assert "other-copy 0.3" in caught.value.message
    infos = site.registry().installed(COMPRESSOR)
    assert [(info.distribution, info.version, info.available) for info in infos] == [
        ("acme-copy", "2.1", False),
        ("other-copy", "0.3", False),
    ]


FAULTS: dict[str, tuple[str, str, str]] = {
    "api_version": (with_fault("api_version = 2"), "Faulty", "api_version 2, this is 1"),
    "no api_version": ("class Faulty: pass", "Faulty", "api_version None"),
    "missing methods": (
        GOOD.replace("def decoder", "def dekoder").replace("def compress", "def press") + "\n    Faulty = Base",
        "Faulty",
        "lacks the methods compress, decoder",
    ),
    "missing attribute": (GOOD.replace('id = "good"', "") + "\n    Faulty = Base", "Faulty", "does not declare id"),
    "missing summary": (GOOD.replace('summary = "copies"', ""), "Base", "does not declare summary"),
    "long summary": (with_fault('summary = "one\\ntwo"'), "Faulty", "not one line"),
    "another name": (with_fault('name = "elsewhere"'), "Faulty", "calls itself 'elsewhere'"),
    "same option twice": (with_fault("options = Base.options * 2"), "Faulty", "options are not distinct"),
    "options of another type": (with_fault('options = ("strength",)'), "Faulty", "options are not distinct"),
    "default of another type": (
        with_fault('options = (Option(name="room", help="how much", type="size", default="1G"),)'),
        "Faulty",
        "defaults of its options room are not of their types",
    ),
    "not a class": ("Faulty = 5", "Faulty", "is not a class"),
    "another contract": ("class Faulty: api_version = 1", "Faulty", "does not derive from freezer_sdk.compressors"),
    "no such attribute": ("", "Faulty", "AttributeError"),
    "a library is missing": ("import no_such_library_x", "Faulty", "No module named 'no_such_library_x'"),
    "syntax": ("def", "Faulty", "SyntaxError"),
    "assertion": ("assert False, 'broken'", "Faulty", "AssertionError: broken"),
    "exit": ("import sys; sys.exit(3)", "Faulty", "SystemExit: 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_one_error_with_the_distribution(site: Site, fault: str) -> None:
    source, name, message = FAULTS[fault]
    module = "acme_" + fault.replace(" ", "_")
    site.install("acme-broken", "1.4", {"compressors: good": f"{module}:{name}"}, **{module: source})
    with pytest.raises(PluginError) as caught:
        site.registry().load(COMPRESSOR, "good")
    assert message in caught.value.message
    assert "compressor 'good' of acme-broken 1.4" in caught.value.message


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_does_not_hide_the_others(site: Site, fault: str) -> None:
    source, name, message = FAULTS[fault]
    module = "listed_" + fault.replace(" ", "_")
    site.install("acme-broken", "1.4", {"compressors: bad": f"{module}:{name}"}, **{module: source})
    site.install("acme-copy", "2.1", {"compressors: good": "acme_copy:Base"}, acme_copy=GOOD)
    broken, whole = site.registry().installed(COMPRESSOR)
    assert (broken.name, broken.available) == ("bad", False)
    assert broken.reason is not None
    assert (whole.name, whole.summary, whole.available, whole.reason) == ("good", "copies", True, None)
    assert [option.name for option in whole.options] == ["strength", "token"]
    assert message in broken.reason or fault == "another name"


def test_a_missing_extra_is_named_by_available(site: Site) -> None:
    source = with_fault("available = classmethod(lambda cls: \"pip install 'acme-copy[fast]'\")")
    site.install("acme-copy", "2.1", {"compressors: good": "acme_extra:Faulty"}, acme_extra=source)
    registry = site.registry()
    assert registry.load(COMPRESSOR, "good").summary == "copies"
    with pytest.raises(PluginUnavailable, match=r"acme-copy 2\.1 cannot be used here") as caught:
        registry.build(COMPRESSOR, "good")
    assert "pip install 'acme-copy[fast]'" in caught.value.message
    info = registry.describe(COMPRESSOR, "good")
    assert (info.summary, info.reason) == ("copies", "pip install 'acme-copy[fast]'")


def test_an_extra_of_the_entry_point_becomes_the_hint(site: Site) -> None:
    points = {"compressors: good": "acme_hint:Base [fast]"}
    site.install("acme-copy", "2.1", points, acme_hint="import no_such_library_y")
    with pytest.raises(PluginError) as caught:
        site.registry().load(COMPRESSOR, "good")
    assert caught.value.hint == "pip install 'acme-copy[fast]'"


def test_available_that_fails_is_a_fault_of_the_plugin(site: Site) -> None:
    source = with_fault("available = classmethod(lambda cls: 1 / 0)")
    site.install("acme-copy", "2.1", {"compressors: good": "acme_avail:Faulty"}, acme_avail=source)
    with pytest.raises(PluginError, match=r"acme-copy 2\.1: available\(\) failed: ZeroDivisionError"):
        site.registry().require(COMPRESSOR, "good")
    assert not site.registry().describe(COMPRESSOR, "good").available


def test_wrong_options_are_all_named_at_once(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_copy:Base"}, acme_copy=GOOD)
    with pytest.raises(ConfigurationError) as caught:
        site.registry().build(COMPRESSOR, "good", {"strength": "much", "colour": "red"})
    for word in ("compressor 'good'", "strength", "colour"):
        assert word in caught.value.message


def test_a_constructor_that_fails_is_wrapped_without_secrets(site: Site) -> None:
    source = with_fault("__init__ = lambda self, *, strength, token: open('/nowhere/' + token)")
    site.install("acme-copy", "2.1", {"compressors: good": "acme_init:Faulty"}, acme_init=source)
    with pytest.raises(PluginError, match=r"acme-copy 2\.1 could not be made: FileNotFoundError") as caught:
        site.registry().build(COMPRESSOR, "good", {"token": "canary-4711"})
    assert "canary-4711" not in str(caught.value)


def test_keyboard_interrupt_passes(site: Site) -> None:
    site.install("acme-copy", "2.1", {"compressors: good": "acme_int:Base"}, acme_int="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        site.registry().load(COMPRESSOR, "good")


def test_installed_entry_points_equal_the_modules() -> None:
    """With entry points in the wrong file setuptools installs none and says nothing."""
    code = "from freezer_sdk import list_plugins\nfor p in list_plugins(): print(p.kind, p.name, p.target, p.reason)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed = [line.split(" ", 3) for line in run.stdout.splitlines()]
    ours = [(kind, name, target) for kind, name, target, _ in listed if target.startswith("freezer_sdk.")]
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    declared = []
    for kind in KINDS.values():
        for line in setup.get("options.entry_points", kind.namespace, fallback="").strip().splitlines():
            name, _, target = (part.strip() for part in line.partition("="))
            declared.append((kind.name, name, target))
    assert sorted(ours) == sorted(declared)
    assert {kind for kind, _, _ in ours} >= {"engine", "storage", "mode", "compressor"}
    lacking = [line for line in listed if line[3] != "None" and line[0] != "snapshot"]  # those need programs
    assert lacking == []


def test_every_plugin_file_is_an_entry_point() -> None:
    """A file beside ``base.py`` is named after its entry point, but for what several plug-ins share."""
    root = Path(freezer_sdk.__file__).parent
    for kind in KINDS.values():
        folder = root / f"{kind.name}s"
        files = {file.stem for file in folder.glob("[!_]*.py")} - {"base", "label", "mounts"}
        files |= {file.parent.name for file in folder.glob("*/__init__.py")} - {"chains"}
        assert files <= set(PluginRegistry().names(kind)), kind.name


def test_reference_page_describes_options_and_aliases(site: Site) -> None:
    points = {"compressors: good": "acme_page:Base", "compressors: better": "acme_page:Base"}
    site.install("acme-copy", "2.1", points, acme_page=GOOD)
    site.install("acme-broken", "1.4", {"storages: bad": "acme_gone:Storage"})
    page = reference_page(site.registry().installed())
    assert "### `good`\n\ncopies. From `acme-copy`." in page
    assert "| `strength` | int | `3` | how much |" in page
    assert "Another name of `good`." in page
    assert "It cannot be described: storage 'bad' of acme-broken 1.4" in page


def test_list_plugins_refuses_unknown_kinds() -> None:
    with pytest.raises(ConfigurationError, match="'storages' is no kind"):
        list_plugins("storages")
    assert {info.kind for info in list_plugins("compressor")} == {"compressor"}
