# Functions that the services' scripts share (POSIX shell). Sourced, not run, with $service set to the service's name.
#
# A service is a folder with three scripts, all idempotent: install (packages and virtual environments), start (installs
# what is missing, starts what does not run, writes $STATE/env with NAME=value lines for the tests), stop (ends what this
# state started, and nothing else). Everything listens on 127.0.0.1, on ports that were free when the state was made.
# FREEZER_TEST_INSTANCE names another instance of the same service, with a state and ports of its own.

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
: "${FREEZER_TEST_SERVICES:=$root/.test-services}"
export FREEZER_TEST_SERVICES
STATE=$FREEZER_TEST_SERVICES/$service${FREEZER_TEST_INSTANCE:+-$FREEZER_TEST_INSTANCE}
VENVS=$FREEZER_TEST_SERVICES/venvs
. "$root/scripts/lib.sh"
mkdir -p "$STATE" "$VENVS"

# free_port: prints a TCP port that nobody listens on.
free_port() {
    "$(find_python)" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# port NAME: prints the port that this state uses under that name, chosen at the first call.
port() {
    [ -s "$STATE/port-$1" ] || free_port >"$STATE/port-$1"
    cat "$STATE/port-$1"
}

# alive PID: whether the process runs; one that has ended, and that nobody has waited for yet, does not.
alive() {
    kill -0 "$1" 2>/dev/null || return 1
    process_state=$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null) || :
    [ "$process_state" != Z ]
}

# running PIDFILE: whether the process that PIDFILE names is alive.
running() {
    [ -s "$1" ] && alive "$(cat "$1")"
}

# stop_pid PIDFILE: ends the process that PIDFILE names, at last by force, and waits until it is gone.
stop_pid() {
    running "$1" || { rm -f "$1"; return 0; }
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || :
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        alive "$pid" || break
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || :
    rm -f "$1"
}

# listening PORT: whether something accepts connections there.
listening() {
    "$(find_python)" -c "import socket; socket.create_connection(('127.0.0.1', $1), 1).close()" 2>/dev/null
}

# wait_for PORT LOG [TENTHS]: waits until something listens, or shows the log and fails.
wait_for() {
    tries=${3:-300}
    until listening "$1"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { tail -n 50 "$2" >&2; fail "$service does not listen on port $1"; }
        sleep 0.1
    done
}

# make_certificates FOLDER: a new authority (ca.pem), and a certificate of it for 127.0.0.1 (server.pem, server.key), unless
# they are there.
make_certificates() {
    [ ! -s "$1/server.pem" ] || return 0
    mkdir -p "$1"
    (
        cd "$1"
        openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=freezer-tests-ca -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1\n' >san
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile san -out server.pem
    ) 2>"$1/log" || fail "no certificates: $(cat "$1/log")"
}

# service_venv NAME REQUIREMENT...: a virtual environment of its own for a server; prints its folder.
service_venv() {
    venv=$VENVS/$1
    shift
    if [ "$(cat "$venv/.installed" 2>/dev/null)" != "$*" ]; then
        {
            make_venv "$(find_python)" "$venv"
            "$venv/bin/python" -m pip install --quiet "$@" || fail "these could not be installed: $*"
        } >&2
        printf '%s\n' "$*" >"$venv/.installed"
    fi
    printf '%s\n' "$venv"
}
