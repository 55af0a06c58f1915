"""Options that are accepted for what this version does not have yet, and for what is past."""

from __future__ import annotations

from freezer_cli.agent.option import AgentOption as Option
from freezer_cli.agent.option import Kind

_DATABASE = "databases"
_CLOUD = "OpenStack resources"
_PAST = "accepted, without an effect"

LATER = (
    Option(name="sql-server-conf", group=_DATABASE, metavar="FILE", help="instance of SQL Server"),
    Option(name="nova-inst-id", group=_CLOUD, metavar="ID", help="instance to back up"),
    Option(name="nova-inst-name", group=_CLOUD, metavar="NAME", help="instances to back up"),
    Option(name="nova-restore-network", group=_CLOUD, metavar="ID", help="network of a restored instance"),
    Option(name="cinder-vol-id", group=_CLOUD, aliases=("cinder-inst-id",), metavar="ID", help="volume to back up"),
    Option(name="cinder-vol-name", group=_CLOUD, metavar="NAME", help="volumes to back up"),
    Option(name="cinderbrick-vol-id", group=_CLOUD, metavar="ID", help="volume to attach and back up"),
    Option(name="cindernative-vol-id", group=_CLOUD, metavar="ID", help="volume that Cinder itself backs up"),
    Option(name="cindernative-backup-id", group=_CLOUD, metavar="ID", help="Cinder's backup to restore"),
    Option(name="cindernative-backup-az", group=_CLOUD, metavar="NAME", help="availability zone of Cinder's backup"),
    Option(name="cindernative-backup-container", group=_CLOUD, metavar="NAME", help="container of Cinder's backup"),
    Option(
        name="cindernative-freezer-only",
        group=_CLOUD,
        kind=Kind.FLAG,
        default=True,
        help="remove only backups that Freezer had Cinder make",
    ),
    Option(
        name="fullbackup-rotation",
        group=_CLOUD,
        kind=Kind.INTEGER,
        default=1,
        metavar="N",
        help="full backups of Cinder to keep",
    ),
    Option(name="glance-image-id", group=_CLOUD, metavar="ID", help="image to back up"),
    Option(name="glance-image-name", group=_CLOUD, metavar="NAME", help="images to back up"),
    Option(name="glance-image-name-filter", group=_CLOUD, metavar="TEXT", help="images to leave out"),
    Option(name="project-id", group=_CLOUD, metavar="ID", help="project whose instances or images are backed up"),
    Option(
        name="temp-resource-prefix",
        group=_CLOUD,
        default="freezer_",
        metavar="TEXT",
        help="of names of temporary resources",
    ),
)

OBSOLETE = (
    Option(
        name="list-containers",
        group=_PAST,
        short="-L",
        kind=Kind.FLAG,
        help="list containers",
        instead="`openstack container list` lists containers; --action info tells about one",
    ),
    Option(
        name="list-objects",
        group=_PAST,
        short="-l",
        kind=Kind.FLAG,
        help="list objects",
        instead="--action info lists the backups; `openstack object list` lists objects",
    ),
    Option(
        name="ftp-keyfile",
        group=_PAST,
        place=True,
        metavar="FILE",
        help="key of a client's certificate, which was never used",
        instead="log in with --ftp-username and --ftp-password",
    ),
    Option(
        name="ftp-certfile",
        group=_PAST,
        place=True,
        metavar="FILE",
        help="a client's certificate, which was never used",
        instead="log in with --ftp-username and --ftp-password",
    ),
    Option(
        name="volume", group=_PAST, metavar="DRIVE", help="drive of Windows", instead="--path-to-backup says it all"
    ),
    Option(
        name="log-config-append",
        group=_PAST,
        aliases=("log-config",),
        metavar="FILE",
        help="configuration of Python's logging",
        instead="use --log-file, --use-syslog and --debug",
    ),
    Option(
        name="use-journal",
        group=_PAST,
        kind=Kind.FLAG,
        help="log to the journal",
        instead="use --use-syslog, or start the program from a unit of systemd",
    ),
    Option(
        name="use-json",
        group=_PAST,
        kind=Kind.FLAG,
        help="log as JSON",
        instead="--metadata-out writes the result as JSON, `freezer backup create --json-events` everything",
    ),
    Option(name="verbose", group=_PAST, short="-v", kind=Kind.FLAG, help="log more", instead="use --debug"),
)
