"""What is known to be safe: an SQLite file of each copied file's look and its object's ETag."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from golden_keep.scan import File

OTHER = "other"
"""The ETag of a file whose name in the bucket another machine's file has: it equals no object's."""
_TABLES = """
CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER,
  ctime_ns INTEGER, inode INTEGER, mode INTEGER, etag TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS beside (path TEXT PRIMARY KEY);
"""


class Index:
    """The index of one folder's copies at `place`. `fresh` says that it knows nothing yet: it is
    new, was lost or broken, or is of another place."""

    def __init__(self, path: Path, place: str) -> None:
        self.trouble = ""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.known = self._open(path, place)
        except (OSError, sqlite3.OperationalError) as error:  # no space, for example
            self.trouble = (
                f"{path}: {error}: what is copied now is compared again by the next round"
            )
            self.known = self._open(Path(":memory:"), place)
        except sqlite3.DatabaseError:  # the file is broken
            path.unlink()
            self.known = self._open(path, place)
        self.fresh = not self.known

    def _open(self, path: Path, place: str) -> dict[str, tuple[File, str]]:
        self._database = sqlite3.connect(path, timeout=60)
        self._database.executescript(_TABLES)
        if self._database.execute("SELECT name FROM place").fetchall() != [(place,)]:
            self._database.executescript("DELETE FROM place; DELETE FROM files; DELETE FROM beside")
            self._database.execute("INSERT INTO place VALUES (?)", (place,))
            self._database.commit()
        rows = self._database.execute("SELECT * FROM files")
        return {row[0]: (File(*row[:6]), row[6]) for row in rows}

    def put(self, file: File, etag: str, beside: str = "") -> None:
        """Note a file that is safe, and the path of another machine's file of the same name."""
        self.known[file.path] = (file, etag)
        self._write("REPLACE INTO files VALUES (?,?,?,?,?,?,?)", *file, etag)
        if beside:
            self._write("REPLACE INTO beside VALUES (?)", beside)

    def _write(self, statement: str, *values: object) -> None:
        try:
            if statement:
                self._database.execute(statement, values)
            else:
                self._database.commit()
        except sqlite3.OperationalError as error:
            self.trouble = f"the index: {error}: the next round compares with the bucket again"

    def beside(self) -> list[str]:
        """Return the paths of objects beside those of other machines' files."""
        return [row[0] for row in self._database.execute("SELECT path FROM beside")]

    def save(self) -> None:
        """Write what was put to the disk."""
        self._write("")
