"""Files of shell assignments: what bash would assign is what is read, and nothing is run."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import Option
from freezer_sdk.streams.openstack import OPENSTACK, resolve
from freezer_sdk.streams.osrc import parse_osrc, read_osrc

PLAIN = [
    "A=value",
    "export A=value",
    "  export   A=value",
    "\tA=value  # comment",
    "declare -x A=value",
    "A='single $quoted `x` \"double\"'",
    'A="double \'single\' \\" \\\\ \\$x \\n"',
    "A=back\\ slash\\'d",
    "A=''",
    "A=",
    "A=joined'to'\"gether\"",
    "A=a#b",
    "A='x'#b",
    "A=value; export B=no",
    'A="cost: 5$"',
    "A=cost:5$",
    "A=a=b",
    "B=first\nexport A=$B/x${B}y",
    "B=first\nA=\"$B\"'$B'",
    "A=first\nA=second",
    "A=Zürich",
    "# A=comment\nA=x",
    'if [ -z "$A" ]; then unset A; fi\nA=x',
]
UNKNOWN = [
    "A=$UNSET_ANYWHERE",
    "A=$(touch /tmp/executed)",
    "A=`id`",
    'A="`id`"',
    'A="$(id)"',
    "A=${B:-x}",
    "A=$'ansi'",
    'A="open',
    "A='open",
    "A=$1",
]


@pytest.mark.parametrize("text", PLAIN)
def test_values_are_those_of_bash(text):
    script = text + '\nprintf %s "$A"'
    bash = subprocess.run(["bash", "-c", script], env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True)
    assert parse_osrc(text).values["A"] == bash.stdout.decode()


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_only_a_shell_could_tell(text):
    found = parse_osrc("C=before\n" + text)
    assert found.values == {"C": "before"}
    assert found.unknown == {"A": 2}


def test_a_later_line_makes_it_known_and_unknown():
    assert parse_osrc("A=$X\nA=x").values == {"A": "x"}
    assert parse_osrc("A=x\nA=$X").unknown == {"A": 2}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=30))
def test_single_quotes_keep_everything(value):
    quoted = value.replace("'", "'\\''")
    assert parse_osrc(f"export A='{quoted}'").values == {"A": value}


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text):
    parse_osrc(text)


def test_values_are_not_shown():
    assert "canary" not in repr(parse_osrc("OS_PASSWORD=canary"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_osrc(str(tmp_path))
    (tmp_path / "latin").write_bytes(b"A=Z\xfcrich")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_osrc(str(tmp_path / "latin"))


class TestResolve:
    @pytest.fixture
    def osrc(self, tmp_path):
        path = tmp_path / "openrc"
        path.write_text(
            "export OS_USERNAME=me\nexport OS_TENANT_NAME=old\nOS_PROJECT_NAME=project\nexport OS_INSECURE=true\n"
            "export OS_REGION_NAME=\nexport OS_PASSWORD=$INPUT\nOTHER=x\n"
        )
        return str(path)

    def test_what_is_given_wins(self, osrc):
        given_values = {"osrc": osrc, "os_password": "p", "os_username": None, "os_project_name": "mine"}
        found = resolve(given_values, OPENSTACK)
        expected = {"os_username": "me", "os_project_name": "mine", "os_password": "p", "os_insecure": True}
        assert found == expected

    def test_the_first_variable_counts(self, osrc):
        assert resolve({"osrc": osrc, "os_password": "p"}, OPENSTACK)["os_project_name"] == "project"

    def test_options_of_others(self, osrc):
        option = Option(name="mine", env=("OTHER",), help="x")
        assert resolve({"osrc": osrc}, [option]) == {"mine": "x"}

    def test_a_value_that_only_a_shell_could_tell(self, osrc):
        with pytest.raises(ConfigurationError, match="line 6") as told:
            resolve({"osrc": osrc}, OPENSTACK)
        assert "os_password" in (told.value.hint or "")

    def test_without_a_file(self):
        assert resolve({"os_username": "me", "os_password": None}, OPENSTACK) == {"os_username": "me"}
