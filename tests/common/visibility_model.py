"""The visibility of docs/concepts.md at one date, by recursion over its definition: slow, and
short.
"""

from datetime import datetime
from operator import attrgetter

from cmt.timeline import Version


class Model:
    def __init__(self, versions: list[Version]) -> None:
        self.all, self.banked = versions, [v for v in versions if v.banked]

    def visible(self, date: datetime) -> set[tuple[str, datetime]]:
        return {
            v[:2]
            for v in self.current(date)
            if not self.repeated(v) and not self.hidden(v, self.current(date))
        }

    def current(self, date: datetime, *, banked: bool = True) -> list[Version]:
        until = [v for v in (self.banked if banked else self.all) if v.published_at <= date]
        latest = {v.doc_id: v for v in sorted(until, key=attrgetter("order"))}
        return sorted(latest.values(), key=attrgetter("order"))

    def hidden(self, version: Version, updates: list[Version]) -> bool:
        others = [
            u
            for u in updates
            if u.doc_id != version.doc_id and u.published_at >= version.published_at
        ]
        return any(
            version.doc_id in self.named(u.supersedes, u.published_at, ())
            for u in others
            if u.supersedes
        )

    def repeated(self, version: Version) -> str | None:
        current = self.current(version.published_at)
        earlier = [v for v in current if v.published_at < version.published_at]
        before = [v for v in current if v[3:5] == version[3:5] and v.order < version.order]
        found = [v for v in before if self.repeated(v) is None and not self.hidden(v, earlier)]
        return found[0].doc_id if found and version.supersedes is None else None

    def named(self, name: str, date: datetime, seen: tuple[str, ...]) -> set[str]:
        found, leads_to = set[str](), set[str]()
        for original in (self.repeated(v) for v in self.current(date) if v.doc_id == name):
            (leads_to if original else found).add(original or name)
        for v in (v for v in self.current(date, banked=False) if v.doc_id == name and not v.banked):
            same = [u for u in self.current(date) if u[3:5] == v[3:5] and not u.supersedes]
            found |= {u.doc_id for u in same if self.repeated(u) is None}
            leads_to.add(v.supersedes or name)
        return found.union(
            *(self.named(other, date, (*seen, name)) for other in leads_to - {name, *seen})
        )
