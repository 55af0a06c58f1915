# Functions that the scripts share (POSIX shell). Sourced, not run; expects $root, the top of the checkout.

# pip keeps what it downloads inside the checkout, and is quiet about things that do not matter here.
export PIP_CACHE_DIR="$root/.venv-cache" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# as_root COMMAND...: runs it as root, by sudo where needed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo; run as root: $*"
    fi
}

# install_packages NAME...: installs those Debian packages that are missing. Their services are
# not started.
install_packages() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || {
        printf 'not a Debian system; these packages, or what they are called here, must be there: %s\n' "$*" >&2
        return 0
    }
    missing=
    for package; do
        # shellcheck disable=SC2016
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    printf 'installing Debian packages:%s\n' "$missing"
    # shellcheck disable=SC2086
    as_root sh "$root/scripts/apt-install" $missing || fail "these packages could not be installed:$missing"
}

# find_python: prints a Python that is new enough.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    fail "Python 3.11 or newer is needed (Debian 12: apt-get install python3); PYTHON=/path names another one"
}

# make_venv PYTHON FOLDER: makes a virtual environment, unless a working one of the same version is there.
make_venv() {
    wanted=$("$1" -c 'import sys; print(sys.version)')
    [ "$("$2/bin/python" -c 'import sys, pip; print(sys.version)' 2>/dev/null)" != "$wanted" ] || return 0
    # Debian has the parts of venv in packages of their own.
    "$1" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    rm -rf "$2"
    "$1" -m venv "$2" || fail "$1 cannot make a virtual environment"
}

# install_project FOLDER [-e] EXTRAS: installs this checkout into a virtual environment, unless nothing changed since.
install_project() {
    venv=$1 editable=
    [ "$2" != -e ] || { editable=-e && shift; }
    if [ -n "$editable" ]; then sources=; else sources="$root/freezer_sdk $root/freezer_cli"; fi
    # shellcheck disable=SC2086
    stamp=$(
        cd "$root"
        find setup.cfg pyproject.toml constraints.txt $sources -type f ! -name '*.pyc' -print0 | sort -z |
            xargs -0 sha256sum | sha256sum
    )
    stamp="$editable$2 $root $stamp"
    [ "$(cat "$venv/.installed" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$root/build" "$venv/.installed" # an old build/ would put removed modules into the package
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" $editable "$root$2" ||
        fail "the project could not be installed"
    [ -n "$editable" ] || rm -rf "$root/build"
    printf '%s\n' "$stamp" >"$venv/.installed"
}
