"""The champion: the promoted compressor, kept with its predecessor in the project's data.

A small file names both, so commands, flows and server find them without MLflow. The bank's pointer
selects the compressor that answers; it moves when the champion's memories are complete
(`cmt.rounds.recompression`).
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from cmt.common.storage import flush_to_disk, read_checked_json, replace_file, write_checked_json
from cmt.errors import ModelError

FILE = "champion.json"  # in the state folder
# next to the state folder: one folder for each compressor that was promoted
_FOLDER = "compressors"


@dataclass(frozen=True)
class Promoted:
    """A compressor that was promoted."""

    digest: str  # of its weights and configuration
    bank: str  # first 12 digits of its digest at its window, which name its bank
    version: str = ""  # in the model registry; "" if unregistered
    # the slice with the questions of the comparison; "" without a comparison
    scored_slice: str = ""
    f1: float | None = None  # F1 on these questions, 0–100


@dataclass(frozen=True)
class Champion:
    """The content of the file: the champion and its predecessor."""

    champion: Promoted
    previous: Promoted
    going_back: bool = False  # whether a rollback restored the champion, which preceded `previous`


def read_champion(state: Path) -> Champion | None:
    """The content of the file in the state folder; None without a file. Raises ModelError if it is
    damaged.
    """
    try:
        return read_checked_json(state / FILE, Champion)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{state / FILE}, which names the champion, is damaged ({error}): restore it, or "
            "remove it, and `cmt "
            "registry promote` writes it again; without the file compressor.path is used"
        ) from None


def write_champion(state: Path, champion: Champion) -> None:
    """Write the file. Call `keep_compressor` for both compressors first. Raises OSError."""
    write_checked_json(state / FILE, asdict(champion))


def champion_folder(state: Path, digest: str) -> Path:
    """The folder of the kept compressor with this digest."""
    return state.parent / _FOLDER / digest[:12]


def champion_folders(state: Path) -> list[Path]:
    """The folders of all kept compressors, sorted."""
    return sorted(path for path in (state.parent / _FOLDER).glob("*") if path.is_dir())


def keep_compressor(state: Path, source: Path) -> Path:
    """Copy the compressor in `source` to its `champion_folder`, unless the folder exists; returns
    that folder.

    Raises ModelError if it has no compressor, and OSError if it cannot be written.
    """
    from cmt.modeling.checkpoint import checkpoint_digest

    folder = champion_folder(state, checkpoint_digest(source))
    if folder.exists():
        return folder
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a copy that was interrupted
    copy_compressor(source, temporary)
    replace_file(temporary, folder)
    return folder


def copy_compressor(source: Path, target: Path) -> None:
    """Copy those files of a compressor that are in `source` to the new folder `target`. Raises
    OSError.
    """
    from cmt.modeling.checkpoint import CONFIG, SUMS, WEIGHTS
    from cmt.modeling.codebook import CODEBOOKS
    from cmt.modeling.cross_encoder import FILE as CROSS_ENCODER

    target.mkdir(parents=True)
    for name in (WEIGHTS, CONFIG, SUMS, CODEBOOKS, CROSS_ENCODER, "card.md"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
            flush_to_disk(target / name)
