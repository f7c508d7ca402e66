"""The kinds of sources: those of this package, and those that other packages install."""

from collections.abc import Callable
from importlib.metadata import entry_points

from cmt.config import SourceParams
from cmt.errors import ConfigError
from cmt.sources._folder import FolderSource
from cmt.sources._remote import StorageSource
from cmt.sources._sql import SqlSource
from cmt.sources.connector import Connector, Setting
from cmt.sources.web import FeedSource, WebSource

# entry points: kind → a function of SourceParams and Setting that returns a Connector
GROUP = "cmt.sources"


def open_connector(source: SourceParams, setting: Setting) -> Connector:
    """The connector of `source`. Raises ConfigError if no package has its kind, or a parameter is
    missing.
    """
    on_web = source.address.startswith(("http://", "https://"))
    kinds: dict[str, Callable[[SourceParams, Setting], Connector]] = {
        "folder": FolderSource,
        "remote": WebSource if on_web else StorageSource,
        "feed": FeedSource,
        "sql": SqlSource,
    }
    if source.kind in kinds:
        return kinds[source.kind](source, setting)
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if source.kind not in installed:
        names = ", ".join([*kinds, *sorted(installed)])
        raise ConfigError(
            f"sources.{source.name}: no installed package has the kind {source.kind!r}; there are "
            f"{names}, and packages with an entry point in the group {GROUP!r} add others"
        )
    connector: Connector = installed[source.kind].load()(source, setting)
    return connector
