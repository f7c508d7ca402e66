"""Exports of Slack: a folder a channel, and `users.json` with the people."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from cmt.stream.columns import Record

PEOPLE = "users.json"
LISTS = {PEOPLE, "channels.json", "dms.json", "groups.json", "mpims.json", "integration_logs.json"}
"""Files of an export that have no messages."""
_MENTION = re.compile(r"<@(U\w{1,20})(?:\|([^>]{1,80}))?>")
_CHANNEL = re.compile(r"<#C\w{1,20}\|([^>]{1,80})>")
_LINK = re.compile(r"<(https?://[^>|]{1,2000})(?:\|[^>]{0,200})?>")
_FIRST_WORDS = 60  # characters of the message that a thread answers

People = Mapping[str, str]
"""Id of a person → the name."""


def people_of(data: bytes) -> People:
    """The people of a `users.json`; none if it is not one of Slack."""
    try:
        users = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    people = {}
    for user in users if isinstance(users, list) else ():
        if isinstance(user, dict) and isinstance(user.get("id"), str):
            given = user.get("profile")
            profile = given if isinstance(given, dict) else {}
            names = (profile.get("real_name"), user.get("real_name"), user.get("name"))
            people[user["id"]] = next(
                (name for name in names if isinstance(name, str) and name), ""
            )
    return {key: name for key, name in people.items() if name}


def with_people(found: Iterable[Record], name: str, people: People) -> Iterator[Record]:
    """The records of the file `name` of an export. A message gets its author, its channel (the
    folder) as title with the first words of the message that it answers, and an id of its own.
    """
    channel = PurePosixPath(name).parent.name
    texts = dict[Any, str]()
    for record in found:
        fields = record.fields
        if not (channel and "ts" in fields and isinstance(fields.get("text"), str)):
            yield record
            continue
        text = _LINK.sub(r"\1", _CHANNEL.sub(r"#\1", fields["text"]))
        text = _MENTION.sub(lambda match: people.get(match[1], match[2] or match[1]), text)
        texts[fields["ts"]] = text
        answered = texts.get(fields.get("thread_ts"), "") if _is_reply(fields) else ""
        title = f"#{channel}" + (f": {answered[:_FIRST_WORDS]}" if answered else "")
        author = people.get(str(fields.get("user")), "")
        message = {
            "doc_id": f"{channel}/{fields['ts']}",
            "published_at": fields["ts"],
            "title": title,
            "text": f"{author}: {text}" if author and text else text,
        }
        yield record._replace(fields=message)


def _is_reply(fields: Mapping[str, Any]) -> bool:
    return fields.get("thread_ts") not in (None, fields["ts"])
