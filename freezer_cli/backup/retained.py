"""Documents of retention, and how people read them. ``docs/reference/machine-formats.md`` describes the keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from freezer_cli.backup.columns import BACKUP_ROW
from freezer_cli.base import Column, Row
from freezer_cli.documents import Document, backup_document, plain
from freezer_cli.text import counted, human_count, human_iso

if TYPE_CHECKING:
    from freezer_sdk import ForgottenBackup, Hold, RetentionDecision, RetentionGroup, RetentionPlan


def _short(value: str) -> str:
    return value[:8]


PLAN = (
    Column("applied", "Applied", lambda value: "yes" if value else "no"),
    Column("kept", "Kept", human_count),
    Column("forgotten", "Forgotten", human_count),
    Column("now", "Decided for", human_iso),
    Column("groups", "Groups", lambda value: [line for group in value for line in group_lines(group, everything=True)]),
)
HOLD = (
    Column("backup", "Backup", _short),
    Column("reason", "Reason"),
    Column("until", "Until", human_iso),
    Column("created", "Since", human_iso),
    Column("id", "ID", extra=True),
)
FORGOTTEN = (*BACKUP_ROW, Column("forgotten", "Forgotten", human_iso), Column("reason", "Reason"))
"""What can come back."""

REVIVED = (Column("was", "Was", _short), *BACKUP_ROW)
"""What came back."""

_ALWAYS = {
    "newest": "the newest complete one",
    "implausible": "its time cannot be right",
    "damaged": "it cannot be read",
}


def plan_document(plan: RetentionPlan) -> Document:
    """What a policy says of every backup."""
    return {
        "applied": plan.applied,
        "kept": len(plan.kept),
        "forgotten": len(plan.forgotten),
        "now": plan.now.isoformat(),
        "groups": [_group_document(group) for group in plan.groups],
    }


def _group_document(group: RetentionGroup) -> Document:
    return {
        "key": {name: plain(value) for name, value in group.key.items()},
        "writer": group.writer or None,
        "kept": len(group.kept),
        "forgotten": len(group.forgotten),
        "share": round(group.share, 4),
        "refused": group.refused,
        "backups": [_decision_document(decision) for decision in group.decisions],
    }


def _decision_document(decision: RetentionDecision) -> Document:
    backup, first_seen = decision.backup, decision.first_seen
    return {
        "id": backup.id,
        "time": backup.time.isoformat(),
        "first_seen": None if first_seen is None else first_seen.isoformat(),
        "host": plain(backup.host),
        "name": plain(backup.name),
        "tags": plain(backup.tags),
        "status": backup.status.value,
        "keep": decision.keep,
        "reasons": [plain(reason) for reason in decision.reasons],
    }


def hold_document(hold: Hold) -> Document:
    """A hold."""
    return {
        "backup": hold.backup,
        "reason": plain(hold.reason),
        "until": None if hold.until is None else hold.until.isoformat(),
        "created": hold.created.isoformat(),
        "id": hold.id,
    }


def forgotten_document(found: ForgottenBackup) -> Document:
    """A backup that can come back."""
    return {
        **backup_document(found.backup),
        "forgotten": found.forgotten.isoformat(),
        "reason": plain(found.reason),
    }


def group_lines(group: Mapping[str, Any], *, everything: bool) -> Iterable[str]:
    """A group of a plan.

    Args:
        everything: also what is kept.
    """
    head = f"{group_title(group)}: {human_count(group['kept'])} kept, {human_count(group['forgotten'])} to forget"
    yield f"{head} (REFUSED: more than allowed at once)" if group["refused"] else head
    for each in group["backups"]:
        if everything or not each["keep"]:
            what = "keep  " if each["keep"] else "forget"
            partial = "" if each["status"] == "complete" else f" ({each['status']})"
            reasons = "; ".join(reason_text(reason, keep=each["keep"]) for reason in each["reasons"])
            yield f"  {what}  {each['id'][:8]}  {human_iso(each['time'])}{partial}  {reasons}"


def group_title(group: Mapping[str, Any]) -> str:
    """``etc of node1, /etc /srv``."""
    key = dict(group["key"])
    title = " of ".join(str(key.pop(name)) for name in ("name", "host") if key.get(name))
    rest = [" ".join(value) if isinstance(value, list) else str(value) for value in key.values() if value]
    untrusted = [f"by the untrusted key {group['writer'][:8]}"] if group["writer"] else []
    return ", ".join([part for part in (title, *rest, *untrusted) if part]) or "all backups"


def reason_text(reason: Mapping[str, Any], *, keep: bool) -> str:
    """What a rule says of a backup."""
    rule, slot, taken_by = reason["rule"], reason["slot"], reason["taken_by"]
    title = rule.replace("_", " ")
    if rule in _ALWAYS:
        return _ALWAYS[rule]
    match rule:
        case "held":
            return f"held: {slot}"
        case "needed":
            return f"{slot[:8]} needs it"
        case "young":
            return f"younger than {slot}"
        case "older_than":
            return f"not older than {slot}" if keep else f"older than {slot}"
        case "before":
            return f"{'not ' if keep else ''}before {human_iso(slot)}"
        case "tag":
            return f"tag {slot}" if keep else "no such tag"
    if keep:
        return f"{title} {slot}"
    return f"{title} {slot} is {taken_by[:8]}" if taken_by else f"beyond {title} {slot}".rstrip()


def plan_lines(document: Row) -> Iterable[str]:
    """A plan for people: all of it before, and afterwards what was done."""
    for group in document["groups"]:
        if group["forgotten"] or not document["applied"]:
            yield from group_lines(group, everything=not document["applied"])
    count = counted(document["forgotten"], "backup")
    done = f"forgot {count}" if document["applied"] else f"would forget {count}"
    yield f"{done}, {'kept' if document['applied'] else 'keep'} {human_count(document['kept'])}"
