"""Every option of ``freezer-agent`` and ``freezerc``, of all generations of the original."""

from __future__ import annotations

from freezer_cli.agent.option import AgentOption as Option
from freezer_cli.agent.option import Kind
from freezer_cli.agent.reserved import LATER, OBSOLETE

ACTIONS = ("backup", "restore", "info", "admin", "exec")
STORAGES = ("local", "swift", "ssh", "s3", "ftp", "ftps")
ENGINES = ("tar", "rsync", "rsyncv2", "nova", "osbrick", "glance")
BACKUP_NAME = "freezer_{mode}_{resource_id}"
CONTAINER = "freezer_backups"

_MAIN = "what to do"
_LEVELS = "levels"
_REMOVE = "removing old backups"
_RESTORE = "restoring"
_DATA = "how backups are stored"
_PLACE = "where backups are stored"
_SNAPSHOT = "snapshots"
_DATABASE = "databases"
_RUN = "how the program runs"
_LOG = "messages and log"

_WHAT = (
    Option(name="action", group=_MAIN, default="backup", choices=ACTIONS, help="what to do"),
    Option(
        name="path-to-backup",
        group=_MAIN,
        short="-F",
        aliases=("file-to-backup",),
        inner=("src_file",),
        metavar="PATH",
        help="file or directory to back up",
    ),
    Option(
        name="backup-name",
        group=_MAIN,
        short="-N",
        default=BACKUP_NAME,
        metavar="NAME",
        help="name of the backups; {mode}, {resource_id}, {storage}, {container}, {backup_media} and {project_id} "
        "in it are replaced",
    ),
    Option(name="hostname", group=_MAIN, aliases=("restore-from-host",), help="whose backups; else this host's name"),
    Option(name="mode", group=_MAIN, short="-m", default="fs", help="what is backed up: fs, mysql or mongo"),
    Option(
        name="command", group=_MAIN, metavar="WORDS", help="program that the action exec runs; no shell is involved"
    ),
    Option(
        name="timeout",
        group=_MAIN,
        kind=Kind.INTEGER,
        metavar="SECONDS",
        help="end the program of the action exec after so long; by default it may take for ever",
    ),
    Option(
        name="config",
        group=_MAIN,
        metavar="FILE",
        help="INI file with options of these names, and [storage:NAME] sections for several storages",
    ),
    Option(
        name="config-file",
        group=_MAIN,
        metavar="FILE",
        help="file whose section [DEFAULT] says what --config does not; else freezer.conf and freezer-agent.conf, each "
        "in ~/.freezer, ~, /etc/freezer or /etc",
    ),
    Option(
        name="config-dir",
        group=_MAIN,
        metavar="DIR",
        help="directory of such files (*.conf); they win over --config-file",
    ),
    Option(
        name="dry-run", group=_MAIN, kind=Kind.FLAG, default=False, help="write and remove nothing; say what would be"
    ),
    Option(
        name="metadata-out",
        group=_MAIN,
        metavar="FILE",
        help="write what was done as JSON into this file; '-': on standard output",
    ),
    Option(
        name="backup-id",
        group=_MAIN,
        metavar="ID",
        help="id of a record that was made before; it is passed on in what --metadata-out writes",
    ),
)

_CHAINS = (
    Option(
        name="incremental",
        group=_LEVELS,
        kind=Kind.FLAG,
        help="store what has changed since the last backup; without --max-level endlessly",
    ),
    Option(
        name="max-level",
        group=_LEVELS,
        inner=("max_backup_level",),
        kind=Kind.INTEGER,
        metavar="N",
        help="after level N comes a full backup; means --incremental",
    ),
    Option(
        name="always-level",
        group=_LEVELS,
        inner=("always_backup_level",),
        kind=Kind.INTEGER,
        metavar="N",
        help="go up to level N and repeat it, each time against level N-1; means --incremental",
    ),
    Option(
        name="restart-always-level",
        group=_LEVELS,
        inner=("restart_always_backup",),
        kind=Kind.DAYS,
        metavar="DAYS",
        help="a full backup when the last one is older than this; means --incremental",
    ),
    Option(
        name="remove-older-than",
        group=_REMOVE,
        short="-R",
        aliases=("remove-older-then",),
        kind=Kind.DAYS,
        metavar="DAYS",
        help="remove older backups, except what younger ones need, and the newest",
    ),
    Option(name="remove-before-date", group=_REMOVE, metavar="DATE", help="remove backups that were made before"),
    Option(name="remove-from-date", group=_REMOVE, metavar="DATE", help="an earlier name of --remove-before-date"),
    Option(
        name="restore-abs-path", group=_RESTORE, metavar="DIR", help="where to; must be empty, or --overwrite is given"
    ),
    Option(
        name="restore-from-date",
        group=_RESTORE,
        metavar="DATE",
        help="the last backup that was made until then; local time unless the date has an offset",
    ),
    Option(
        name="overwrite",
        group=_RESTORE,
        kind=Kind.FLAG,
        default=False,
        help="restore into a directory that is not empty, and replace what is there",
    ),
    Option(
        name="consistency-check",
        group=_RESTORE,
        kind=Kind.FLAG,
        default=False,
        help="compute a checksum of what is backed up, for --metadata-out",
    ),
    Option(
        name="consistency-checksum",
        group=_RESTORE,
        metavar="SHA256",
        help="compare what was restored with such a checksum",
    ),
)

_STORED = (
    Option(
        name="engine",
        group=_DATA,
        short="-e",
        inner=("engine_name",),
        default="tar",
        choices=ENGINES,
        help="tar: GNU tar streams; rsync, rsyncv2: changed blocks of files",
    ),
    Option(
        name="compression",
        group=_DATA,
        default="gzip",
        choices=("gzip", "bzip2", "xz"),
        help="how streams are compressed",
    ),
    Option(
        name="encrypt-pass-file",
        group=_DATA,
        metavar="FILE",
        help="encrypt with the password in the first line of this file",
    ),
    Option(
        name="cipher",
        group=_DATA,
        default="auto",
        choices=("auto", "sealed", "openssl"),
        help="how to encrypt: sealed tells what was tampered with, openssl is what the original reads; "
        "auto: openssl where backups of the name are so already",
    ),
    Option(name="exclude", group=_DATA, metavar="PATTERN", help="leave out what fits; the patterns of GNU tar"),
    Option(
        name="dereference-symlink",
        group=_DATA,
        choices=("none", "soft", "hard", "all"),
        help="store what links lead to: symbolic ones (soft), hard ones, or all",
    ),
    Option(
        name="max-segment-size",
        group=_DATA,
        short="-M",
        aliases=("max-seg-size",),
        kind=Kind.INTEGER,
        default=33554432,
        metavar="BYTES",
        help="largest object of a stream in Swift, and part of one in S3",
    ),
    Option(
        name="rsync-block-size",
        group=_DATA,
        kind=Kind.INTEGER,
        default=4096,
        metavar="BYTES",
        help="size of the blocks that the engine rsyncv2 compares",
    ),
    Option(
        name="sync", group=_DATA, kind=Kind.FLAG, default=True, help="write the system's cache to disk before a backup"
    ),
)

_PLACES = (
    Option(name="storage", group=_PLACE, default="swift", choices=STORAGES, place=True, help="kind of storage"),
    Option(
        name="container",
        group=_PLACE,
        short="-C",
        default=CONTAINER,
        place=True,
        metavar="NAME",
        help="container of Swift, bucket/prefix of S3, or directory",
    ),
    Option(name="osrc", group=_PLACE, place=True, metavar="FILE", help="file of 'export OS_...=' lines, for Swift"),
    Option(name="proxy", group=_PLACE, place=True, metavar="URL", help="proxy for all connections; '': none"),
    Option(
        name="insecure",
        group=_PLACE,
        kind=Kind.FLAG,
        default=False,
        place=True,
        help="do not check certificates of servers",
    ),
    Option(
        name="upload-limit",
        group=_PLACE,
        kind=Kind.RATE,
        metavar="BYTES",
        help="bytes a second: 500K, 10M; -1: no limit",
    ),
    Option(
        name="download-limit",
        group=_PLACE,
        kind=Kind.RATE,
        metavar="BYTES",
        help="bytes a second: 500K, 10M; -1: no limit",
    ),
    Option(
        name="os-identity-api-version",
        group=_PLACE,
        aliases=("os-auth-ver",),
        inner=("auth_version",),
        choices=("1", "2", "2.0", "3"),
        place=True,
        help="version of Keystone's API: 3, or 1 for the older login of Swift",
    ),
    Option(name="os-trust-id", group=_PLACE, place=True, metavar="ID", help="Keystone trust to log in with"),
    Option(name="ssh-host", group=_PLACE, place=True, metavar="HOST", help="SSH server"),
    Option(name="ssh-port", group=_PLACE, kind=Kind.INTEGER, default=22, place=True, metavar="PORT", help="its port"),
    Option(name="ssh-username", group=_PLACE, place=True, metavar="USER", help="user on it"),
    Option(
        name="ssh-key",
        group=_PLACE,
        place=True,
        metavar="FILE",
        help="private key; else those of the SSH configuration, the agent, and ~/.ssh/id_rsa",
    ),
    Option(
        name="ssh-password", group=_PLACE, place=True, secret=True, metavar="TEXT", help="password instead of a key"
    ),
    Option(name="ftp-host", group=_PLACE, place=True, metavar="HOST", help="FTP server"),
    Option(name="ftp-port", group=_PLACE, kind=Kind.INTEGER, default=21, place=True, metavar="PORT", help="its port"),
    Option(name="ftp-username", group=_PLACE, place=True, metavar="USER", help="user on it"),
    Option(name="ftp-password", group=_PLACE, place=True, secret=True, metavar="TEXT", help="the user's password"),
    Option(
        name="access-key", group=_PLACE, place=True, metavar="ID", help="S3 key id; else ACCESS_KEY of the environment"
    ),
    Option(
        name="secret-key",
        group=_PLACE,
        place=True,
        secret=True,
        metavar="TEXT",
        help="S3 secret key; else SECRET_KEY of the environment",
    ),
    Option(
        name="endpoint", group=_PLACE, place=True, metavar="URL", help="S3 server; else ENDPOINT of the environment"
    ),
)

_CONSISTENT = (
    Option(
        name="snapshot",
        group=_SNAPSHOT,
        short="-s",
        kind=Kind.WISH,
        default=False,
        help="back up a snapshot: of LVM where --lvm-... options say so, else of what the path lies on",
    ),
    Option(name="lvm-srcvol", group=_SNAPSHOT, metavar="PATH", help="logical volume to take a snapshot of"),
    Option(name="lvm-volgroup", group=_SNAPSHOT, metavar="NAME", help="its volume group"),
    Option(name="lvm-dirmount", group=_SNAPSHOT, metavar="DIR", help="where to mount the snapshot"),
    Option(name="lvm-snapname", group=_SNAPSHOT, metavar="NAME", help="name of the snapshot"),
    Option(
        name="lvm-snap-perm",
        group=_SNAPSHOT,
        aliases=("lvm-snapperm",),
        default="ro",
        choices=("ro", "rw"),
        help="mount it read-only or writable",
    ),
    Option(
        name="lvm-snapsize", group=_SNAPSHOT, default="1G", metavar="SIZE", help="space for changes: 500M, 8G, 80%FREE"
    ),
    Option(name="lvm-auto-snap", group=_SNAPSHOT, kind=Kind.WISH, default=False, help="an earlier name of --snapshot"),
    Option(
        name="mysql-conf",
        group=_DATABASE,
        inner=("mysql_conf_file",),
        metavar="FILE",
        help="login of MySQL: host, port, user, password, socket, ssl-...; with or without a section",
    ),
    Option(
        name="mongo-conf",
        group=_DATABASE,
        metavar="FILE",
        help="INI file with the login of MongoDB: host, port, user, password, auth_database, tls..., or uri",
    ),
)

_RUNNING = (
    Option(
        name="max-priority", group=_RUN, kind=Kind.WISH, default=False, help="run before everything else: CPU and I/O"
    ),
    Option(name="quiet", group=_LOG, short="-q", kind=Kind.FLAG, default=False, help="print errors only"),
    Option(name="debug", group=_LOG, short="-d", kind=Kind.FLAG, default=False, help="tell everything"),
    Option(name="log-file", group=_LOG, aliases=("logfile",), metavar="FILE", help="where to log to"),
    Option(name="log-dir", group=_LOG, aliases=("logdir",), metavar="DIR", help="where a relative --log-file lies"),
    Option(
        name="log-date-format", group=_LOG, metavar="FORMAT", help="of the times in the log, as strftime(3) takes it"
    ),
    Option(name="use-syslog", group=_LOG, kind=Kind.FLAG, default=False, help="log to syslog, too"),
    Option(name="syslog-log-facility", group=_LOG, default="user", metavar="NAME", help="facility of these messages"),
)

OPTIONS: tuple[Option, ...] = (*_WHAT, *_CHAINS, *_STORED, *_PLACES, *_CONSISTENT, *_RUNNING, *LATER, *OBSOLETE)
"""In the order of the help."""

BY_KEY = {option.key: option for option in OPTIONS}

INI_NAMES: dict[str, tuple[Option, bool]] = {
    **{name[2:].replace("-", "_"): (option, False) for option in OPTIONS for name in option.negations},
    **{
        name.replace("-", "_"): (option, True)
        for option in OPTIONS
        for name in (option.name, *option.aliases, *option.inner)
    },
}
"""Options by everything that an INI file may call them, and whether a true value there switches them on."""
