"""One declaration of options gives validation, flags, a schema and the reference table."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import (
    Option,
    add_arguments,
    json_schema,
    markdown_table,
    parse_bool,
    parse_duration,
    parse_size,
    validate,
    values_from,
)

OPTIONS = (
    Option(name="path", type="path", required=True, help="folder | file"),
    Option(name="part_size", type="size", default=16 << 20, help="size of 100% of a part"),
    Option(name="timeout", type="duration", default=30.0, help="seconds"),
    Option(name="level", choices=("low", "high"), default="low", help="how much"),
    Option(name="sync", type="bool", default=True, help="flush"),
    Option(name="port", type="int", help="number"),
    Option(name="ratio", type="float", help="share"),
    Option(name="exclude", multiple=True, default=(), help="patterns"),
    Option(name="password", secret=True, help="a secret"),
)


def outcome(function: Any, value: Any) -> Any:
    try:
        return function(value)
    except ConfigurationError:
        return "refused"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("16M", 16 << 20),
        ("16MiB", 16 << 20),
        ("16mb", 16 << 20),
        ("1.5k", 1536),
        (" 2 G ", 2 << 30),
        ("3T", 3 << 40),
        ("9007199254740993", 9007199254740993),
        (4096, 4096),
        ("", "refused"),
        ("M", "refused"),
        ("-1", "refused"),
        (-1, "refused"),
        (True, "refused"),
        ("1e6", "refused"),
        ("16X", "refused"),
        ("٣", "refused"),
        (None, "refused"),
    ],
)
def test_sizes(text: Any, size: Any) -> None:
    assert outcome(parse_size, text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("250ms", 0.25),
        ("15m", 900.0),
        ("26h", 93600.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        (1.5, 1.5),
        (-1.0, "refused"),
        (math.nan, "refused"),
        (math.inf, "refused"),
        (True, "refused"),
        ("1y", "refused"),
        ("", "refused"),
        (None, "refused"),
    ],
)
def test_durations(text: Any, seconds: Any) -> None:
    assert outcome(parse_duration, text) == seconds


@pytest.mark.parametrize("word", ["1", "yes", "True", " ON "])
def test_yes(word: str) -> None:
    assert parse_bool(word) is True


@pytest.mark.parametrize("word", ["0", "no", "False", "off"])
def test_no(word: str) -> None:
    assert parse_bool(word) is False


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", "12", 12),
        ("int", "1.5", "refused"),
        ("int", 1.0, "refused"),
        ("int", True, "refused"),
        ("float", "1.5", 1.5),
        ("float", "nan", "refused"),
        ("float", "much", "refused"),
        ("bool", "maybe", "refused"),
        ("path", Path("/srv"), "/srv"),
        ("path", b"/srv/\xff", "/srv/\udcff"),
        ("path", "", "refused"),
        ("path", "a\0b", "refused"),
        ("path", 5, "refused"),
        ("str", 5, "5"),
        ("str", b"x", "refused"),
    ],
)
def test_conversion(kind: Any, value: Any, expected: Any) -> None:
    assert outcome(Option(name="x", type=kind, help="x").convert, value) == expected


def test_a_lone_value_is_a_list_of_one() -> None:
    option = Option(name="paths", type="path", multiple=True, help="x")
    assert option.convert("/etc") == ("/etc",)
    assert option.convert(b"/etc") == ("/etc",)
    assert option.convert(Path("/etc")) == ("/etc",)
    assert option.convert(["/etc", b"/srv"]) == ("/etc", "/srv")


def test_defaults_are_filled_in_and_none_counts_as_not_given() -> None:
    values = validate(OPTIONS, {"path": "/srv", "timeout": None, "part_size": "1M"}, owner="storage 'x'")
    assert values == {
        "path": "/srv",
        "part_size": 1 << 20,
        "timeout": 30.0,
        "level": "low",
        "sync": True,
        "port": None,
        "ratio": None,
        "exclude": (),
        "password": None,
    }


def test_all_faults_come_in_one_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(OPTIONS, {"port": "x", "colour": 1, "level": "middle"}, owner="storage 'x'")
    for text in ("storage 'x'", "'path' is required", "'port'", "unknown option 'colour'", "none of low, high"):
        assert text in caught.value.message
    assert caught.value.hint is not None
    assert "part_size" in caught.value.hint


def test_a_wrong_secret_is_not_shown() -> None:
    option = Option(name="pin", type="int", secret=True, help="x")
    with pytest.raises(ConfigurationError) as caught:
        validate([option], {"pin": "canary-4711"}, owner="x")
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def parse(*arguments: str, prefix: str = "") -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser, OPTIONS, prefix=prefix, title="options of x")
    return values_from(parser.parse_args(arguments), OPTIONS, prefix=prefix)


def test_nothing_on_the_command_line_is_no_value() -> None:
    assert parse() == {}


def test_flags_give_converted_values() -> None:
    given = parse(
        "--path", "/srv", "--part-size=1M", "--no-sync", "--exclude", "a", "--exclude", "b", "--level", "high"
    )
    assert given == {"path": "/srv", "part_size": 1 << 20, "sync": False, "exclude": ["a", "b"], "level": "high"}
    assert validate(OPTIONS, given, owner="x")["exclude"] == ("a", "b")


def test_prefixes_keep_plugins_apart() -> None:
    assert parse("--storage-port", "22", prefix="storage-") == {"port": 22}


def test_a_wrong_flag_is_a_usage_error_with_the_reason() -> None:
    with pytest.raises(argparse.ArgumentError, match="'x' is not a whole number"):
        parse("--port", "x")


def test_secrets_have_no_flag_but_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("canary\nsecond line\n")
    assert parse("--password-file", str(file)) == {"password": "canary"}
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    add_arguments(parser, OPTIONS)
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser.parse_args(["--password", "canary"])
    with pytest.raises(ConfigurationError, match="No such file"):
        parse("--password-file", str(tmp_path / "none"))


def test_help_text_is_complete() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, OPTIONS, title="options of x")
    text = " ".join(parser.format_help().split())
    assert "options of x:" in text
    assert "size of 100% of a part (default: 16M)" in text
    assert "folder | file (required)" in text
    assert "{low,high}" in text


def test_schema() -> None:
    schema = json_schema(OPTIONS, title="storage x")
    assert schema["title"] == "storage x"
    assert schema["required"] == ["path"]
    assert schema["additionalProperties"] is False
    members = schema["properties"]
    assert members["level"] == {"type": "string", "enum": ["low", "high"], "description": "how much", "default": "low"}
    assert members["exclude"]["type"] == "array"
    assert members["password"] == {"type": "string", "description": "a secret", "writeOnly": True}
    assert members["part_size"]["default"] == 16 << 20


@given(st.text(st.sampled_from("0123456789. kKmMgGtTiIbB\u0663-")) | st.from_regex(r"\d{1,6}(\.\d)?[kMGT]?(iB)?"))
def test_the_schema_allows_the_sizes_that_are_accepted(text: str) -> None:
    pattern = json_schema([Option(name="x", type="size", help="x")])["properties"]["x"]["pattern"]
    assert bool(re.search(pattern.replace("$", r"\Z"), text, re.ASCII)) is (outcome(parse_size, text) != "refused")


@given(st.text(st.sampled_from("0123456789. smhdw\n")))
def test_the_schema_allows_the_durations_that_are_accepted(text: str) -> None:
    pattern = json_schema([Option(name="x", type="duration", help="x")])["properties"]["x"]["pattern"]
    assert bool(re.search(pattern.replace("$", r"\Z"), text, re.ASCII)) is (outcome(parse_duration, text) != "refused")


def test_reference_table() -> None:
    table = markdown_table(OPTIONS)
    assert "| `path` | path | required | folder \\| file |" in table
    assert "| `level` | `low` \\| `high` | `low` | how much |" in table
    assert "| `password` | str, secret |  | a secret |" in table
    assert "| `sync` | bool | `yes` | flush |" in table
    assert all(line.replace("\\|", "").count("|") == 5 for line in table.splitlines())
    assert "| `part_size` | size | `16M` |" in table
    assert "| `timeout` | duration | `30s` |" in table
    assert markdown_table(()) == "It has no options."


@given(st.integers(0, 1 << 60))
def test_default_sizes_read_back(size: int) -> None:
    table = markdown_table([Option(name="x", type="size", default=size, help="x")])
    assert parse_size(table.splitlines()[2].split("`")[3]) == size


@given(st.sampled_from([0.25, 1, 90, 60, 3600, 5400, 86400, 93600, 1209600]))
def test_default_durations_read_back(seconds: float) -> None:
    table = markdown_table([Option(name="x", type="duration", default=seconds, help="x")])
    assert parse_duration(table.splitlines()[2].split("`")[3]) == seconds
