"""An index in a PostgreSQL database with the extension pgvector; the package psycopg talks to it.

Every change is a transaction, which locks the description: of two writers the later waits, and is refused if the other
has changed the model. New vectors of all photos are a new table, which one transaction fills and switches to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.metadata import Metadata
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.progress import report
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import set_details, unread_records
from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import Precision, round_to, to_float32
from tripletcl.retrieval.store import Writer
from tripletcl.retrieval.stores.postgres_table import UNKNOWN, PostgresTable, part_sql, to_text
from tripletcl.retrieval.stores.protocol import RowFunction
from tripletcl.retrieval.stores.search import nothing_meets, search_rows
from tripletcl.retrieval.stores.sql import filter_sql
from tripletcl.retrieval.structures import FLAT
from tripletcl.retrieval.table import VECTORS, Broken

if TYPE_CHECKING:
    from psycopg import Connection

LINKS, TRIED = 32, 128
"""Links of a photo in a graph, and candidates that are tried for them: twice pgvector's own, which finds too few."""

AUTO, HNSW, FORMAT = "auto", "hnsw", 1

FEWEST_LISTED = 20_000
"""Photos from which on they are linked by graphs."""

WIDEST = 4_000
"""Numbers of a row that a graph of pgvector takes."""

EXTENSION = "vector"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")
COLUMNS = ("path", *UNKNOWN, "camera", "whole")


@dataclass(frozen=True)
class PostgresStore:
    """The index in a database.

    Attributes:
        address: `postgres://user@host:port/database?table=photos`; a password is better in PGPASSWORD or ~/.pgpass.

    Raises:
        UserError: psycopg is not installed, or the table has no plain name.
    """

    address: str

    def __post_init__(self) -> None:
        if find_spec("psycopg") is None:
            raise UserError(f"{self} needs psycopg, which is not installed: pip install 'tripletcl[postgres]'")
        if NAME.fullmatch(self.table) is None:
            raise UserError(f"{self.table!r} is no name of a table: use small letters, digits and _")

    @property
    def table(self) -> str:
        """The name that the tables begin with."""
        return parse_qs(urlsplit(self.address).query).get("table", ["photos"])[0]

    def __str__(self) -> str:
        parts = urlsplit(self.address)
        user, separator, host = parts.netloc.rpartition("@")
        shown = f"{user.partition(':')[0]}{separator}{host}"
        return urlunsplit((parts.scheme, shown, parts.path, parts.query, ""))

    def about(self) -> About:
        with self._briefly() as rows:
            return rows.about

    def version(self) -> object:
        with self._connect() as connection:
            if _header(connection, self.table) is None:
                return None
            return connection.execute(f"SELECT value FROM \"{self.table}_about\" WHERE key = 'changes'").fetchone()

    @contextmanager
    def read(self) -> Iterator[PostgresRows]:
        with self._reaching():
            rows = PostgresRows(self, self._connect())
            if rows.table.name is None:
                raise UserError(f"no index in {self}: make one with tripletcl index RUN PHOTOS --store ADDRESS")
        yield rows

    @contextmanager
    def write(self) -> Iterator[PostgresRows]:
        with self._reaching():
            rows = PostgresRows(self, self._connect(), may_write=True)
        try:
            yield rows
        finally:
            rows.may_write = False

    def size(self) -> int:
        with self._briefly() as rows:
            query = f"SELECT pg_total_relation_size('\"{rows.table.name}\"')"
            return rows.connection.execute(query).fetchone()[0]

    def check(self) -> None:
        with self._briefly() as rows:
            for _ in rows.table.blocks(""):
                pass

    @contextmanager
    def _briefly(self) -> Iterator[PostgresRows]:
        with self.read() as rows, rows.connection, self._reaching():
            yield rows

    def _connect(self) -> Connection[Any]:
        import psycopg

        parts = urlsplit(self.address)
        queries = {name: each[0] for name, each in parse_qs(parts.query).items() if name != "table"}
        with self._reaching():
            plain = urlunsplit(("postgresql", parts.netloc, parts.path, "", ""))
            return psycopg.connect(plain, autocommit=True, **queries)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn the errors of the database into one sentence."""
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            words = " ".join(str(error).split())
            if "vector" in words and ("extension" in words or "halfvec" in words):
                raise UserError(
                    f"the database of {self} lacks pgvector 0.7 or later: install it, and CREATE EXTENSION vector"
                ) from error
            raise UserError(f"{self} cannot be read or written: {words[:300]}") from error


def _header(connection: Connection[Any], name: str) -> dict[str, Any] | None:
    """The stored description; None where there is none."""
    if connection.execute("SELECT to_regclass(%s)", [f'"{name}_about"']).fetchone() == (None,):
        return None
    found = connection.execute(f"SELECT value FROM \"{name}_about\" WHERE key = 'header'").fetchone()
    return None if found is None else json.loads(found[0])


class PostgresRows:
    """The rows of an index in a database.

    Args:
        store: Where.
        connection: To the database.
        may_write: True if changes go to the database.
    """

    def __init__(self, store: PostgresStore, connection: Connection[Any], *, may_write: bool = False) -> None:
        self.store, self.connection, self.may_write = store, connection, may_write
        self.about = About(precision="float16")
        self._open()

    def _open(self) -> None:
        """Read the description anew."""
        name, header = self.store.table, _header(self.connection, self.store.table)
        if header is None:
            self.generation, self.table = 0, PostgresTable(self.connection, None, {})
        elif header["format"] != FORMAT:
            raise UserError(f"the index in {self.store} has format {header['format']}, of another version of tripletcl")
        else:
            self.generation = header["generation"]
            broken = self.connection.execute(f'SELECT path, size, mtime_ns, reason FROM "{name}_broken"').fetchall()
            table = f"{name}_{self.generation}"
            graphs = self.connection.execute("SELECT 1 FROM pg_indexes WHERE indexname = %s", [f"{table}_whole"])
            known = {path: (FileStamp(size, mtime_ns), reason) for path, size, mtime_ns, reason in broken}
            self.table = PostgresTable(self.connection, table, known, graphs.fetchone() is not None)
            self.about = About(header["model"], header["stage"], asked=header["asked"])
        self.about = self._fitted(self.about)

    # --- reading -----------------------------------------------------------------------------------------------------

    def search(self, queries: np.ndarray, k: int, where: Filter | None = None) -> list[ScoredRows]:
        """Find the k best rows for each query `[3 * D]`, best first, ties by path, scored by the stored vectors."""
        with self.store._reaching():
            return search_rows(self.table, queries, k, where)

    def kept(self, where: Filter | None) -> np.ndarray:
        """Find the rows that a filter keeps, `[rows]` bool; False for removed photos.

        Raises:
            UserError: it keeps none.
        """
        kept = np.zeros(self.table.rows, bool)
        with self.store._reaching():
            kept[[row for (row,) in self.table.select("number", filter_sql(where) if where else "true")]] = True
        if where and not kept.any() and self.table.living:
            raise nothing_meets(self.table, where)
        return kept

    def write_to(self, writer: Writer) -> None:
        """Not supported: a database is copied by its own tools."""
        raise UserError(f"the index in {self.store} cannot be saved as a folder: import its parts into one instead")

    # --- photos ------------------------------------------------------------------------------------------------------

    def append(
        self,
        photos: Sequence[tuple[str, FileStamp]],
        metadata: Sequence[Metadata | None],
        arrays: Mapping[str, np.ndarray],
        broken: Mapping[str, Broken] | None = None,
    ) -> None:
        """Append photos and those that cannot be read; former rows of the same photos are replaced."""
        names = [name for name, _ in photos]
        width = arrays[VECTORS].shape[1] if photos else self.table.width
        with self._changing(width if photos else 0):
            if photos:
                self._copy_rows(photos, metadata, round_to("float16", arrays[VECTORS]))
            self._delete(list(broken or {}))
            self._write_broken(broken or {}, names)

    def _copy_rows(
        self, photos: Sequence[tuple[str, FileStamp]], metadata: Sequence[Metadata | None], vectors: np.ndarray
    ) -> None:
        cameras: list[str] = []
        records = unread_records(len(photos))
        set_details(records, metadata, cameras)
        records["size"], records["mtime_ns"] = np.array([stamp for _, stamp in photos], np.int64).T
        self._delete([name for name, _ in photos])
        columns = ", ".join(COLUMNS)
        with self.connection.cursor().copy(f'COPY "{self._name}" ({columns}) FROM STDIN') as copy:
            for (name, _), record, vector in zip(photos, records, vectors, strict=True):
                values = [_known(record[column].item(), unknown) for column, unknown in UNKNOWN.items()]
                camera = cameras[record["camera"]] if record["camera"] >= 0 else None
                copy.write_row([self._text(name), *values, camera, to_text(vector)])

    def _text(self, name: str) -> str:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{name!r} is no Unicode, so {self.store} cannot hold it") from error
        return name

    @property
    def _name(self) -> str:
        return f"{self.store.table}_{self.generation}"

    def _delete(self, names: Sequence[str]) -> None:
        if names and self.generation:
            self.connection.execute(f'DELETE FROM "{self._name}" WHERE path = ANY(%s)', [list(names)])

    def _write_broken(self, new: Mapping[str, Broken], repaired: Sequence[str]) -> None:
        if not self.generation:
            return
        table = f'"{self.store.table}_broken"'
        self.connection.execute(f"DELETE FROM {table} WHERE path = ANY(%s)", [[*repaired, *new]])
        rows = [(self._text(name), *stamp, reason) for name, (stamp, reason) in new.items()]
        self.connection.cursor().executemany(f"INSERT INTO {table} VALUES (%s, %s, %s, %s)", rows)

    def set_details(self, rows: Sequence[int], metadata: Sequence[Metadata]) -> None:
        """Not needed: details are read before a photo is stored."""
        raise NotImplementedError

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Remove photos by their rows, and broken photos by their names."""
        names = [path for (path,) in self.table.select("path", "number = ANY(%s)", [list(rows)])]
        with self._changing():
            self._delete(names)
            self._write_broken({}, broken)

    # --- the description, the vectors --------------------------------------------------------------------------------

    def describe(self, about: About) -> None:
        """Replace the description."""
        about = self._fitted(about)
        if self.generation and self._entry(about) != self._entry(self.about):
            with self._changing():
                self._write_header(about)
        self.about = about

    def recompute(self, about: About, role: str, function: RowFunction, kept: Sequence[str] = ()) -> None:
        """Replace all vectors by a function of them, and the description, by a new table and one transaction."""
        if not self.table.living:
            self.describe(about)
            return
        with self._changing():
            old, others = self._name, ", ".join(COLUMNS[:-1])
            self.connection.execute(f'DROP TABLE IF EXISTS "{self.store.table}_{self.generation - 1}"')
            self.generation += 1
            self._create(self.table.width)
            self.connection.execute("CREATE TEMP TABLE new_rows (path text PRIMARY KEY, whole text) ON COMMIT DROP")
            done = 0
            for block in self.table.blocks(""):
                paths = block.paths(np.arange(len(block.rows)))
                rows = round_to("float16", function(to_float32(block.vectors), paths))
                with self.connection.cursor().copy("COPY new_rows FROM STDIN") as copy:
                    for path, row in zip(paths, rows, strict=True):
                        copy.write_row([path, to_text(row)])
                done += len(rows)
                report("computing vectors", done, self.table.living)
            self.connection.execute(
                f'INSERT INTO "{self._name}" (number, {others}, whole) SELECT number, {others}, '
                f'new_rows.whole::halfvec FROM "{old}" JOIN new_rows USING (path)'
            )
            self.connection.execute(
                f"SELECT setval(pg_get_serial_sequence('\"{self._name}\"', 'number'), {self.table.rows})"
            )
            self._write_header(self._fitted(about))

    def store_as(self, precision: Precision) -> None:
        """Refuse any precision but float16."""
        if precision != "float16":
            raise UserError(f"{self.store} stores vectors in float16: leave out --precision {precision}")

    def settle(self) -> None:
        """Link photos by graphs where there are many; later ones are linked as they come."""
        listed = self.table.is_listed or self.table.living < FEWEST_LISTED or self.table.width > WIDEST
        if not self.may_write or listed or self.about.asked == FLAT:
            return
        with self._changing():
            parts = {"whole": None, **{unit: number for number, unit in enumerate(UNITS)}}
            for done, (part, unit) in enumerate(parts.items(), 1):
                width = self.table.width // (1 if unit is None else len(UNITS))
                self.connection.execute(
                    f'CREATE INDEX "{self._name}_{part}" ON "{self._name}" USING hnsw '
                    f"({part_sql(unit, self.table.width)} halfvec_ip_ops) WITH (m = {LINKS}, ef_construction = {TRIED})"
                )
                report(f"linking {width} numbers", done, len(parts))

    # --- transactions ------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self, width: int = 0) -> Iterator[None]:
        """Change the database in a transaction, in which nobody else does; tables are created for rows of a width."""
        if not self.may_write:
            raise UserError(f"the index in {self.store} was opened for reading")
        with self.store._reaching():
            before = self.generation
            try:
                with self.connection.transaction():
                    self._lock(width)
                    yield
                    self._count_change()
            except BaseException:
                self.generation = before
                raise
            self._open()

    def _lock(self, width: int) -> None:
        name = self.store.table
        self.connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"tripletcl {name}"])
        header = _header(self.connection, name)
        if (header is None) != (self.generation == 0) or (header and header["generation"] != self.generation):
            raise UserError(
                f"another process changed the index in {self.store} at the same time: repeat the command, which goes on"
            )
        if header is not None:
            self._open()  # with the photos of others
        elif width:
            self.connection.execute(f"CREATE EXTENSION IF NOT EXISTS {EXTENSION}")
            self.generation = 1
            self._create(width)
            self.connection.execute(f'CREATE TABLE "{name}_about" (key text PRIMARY KEY, value text)')
            self.connection.execute(
                f'CREATE TABLE "{name}_broken" (path text PRIMARY KEY, size bigint, mtime_ns bigint, reason text)'
            )
            self._write_header(self.about)

    def _count_change(self) -> None:
        """Let readers see that something has changed."""
        if self.generation:
            about = f"{self.store.table}_about"
            self.connection.execute(
                f"INSERT INTO \"{about}\" VALUES ('changes', '1') ON CONFLICT (key) "
                f'DO UPDATE SET value = ("{about}".value::bigint + 1)::text'
            )

    def _create(self, width: int) -> None:
        self.connection.execute(
            f'CREATE TABLE "{self._name}" (number bigint GENERATED BY DEFAULT AS IDENTITY (START 0 MINVALUE 0) UNIQUE, '
            "path text PRIMARY KEY, size bigint, mtime_ns bigint, taken bigint, latitude double precision, "
            f"longitude double precision, camera text, width integer, height integer, whole halfvec({width}) NOT NULL)"
        )

    def _entry(self, about: About) -> dict[str, Any]:
        said = {"format": FORMAT, "generation": self.generation, "table": self._name}
        return said | {"model": about.model, "stage": about.stage, "asked": about.asked}

    def _write_header(self, about: About) -> None:
        self.connection.execute(
            f"INSERT INTO \"{self.store.table}_about\" VALUES ('header', %s) "
            "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
            [json.dumps(self._entry(about))],
        )

    def _fitted(self, about: About) -> About:
        """The description as it is true of this table."""
        if about.asked not in (AUTO, FLAT):
            raise UserError(f"{self.store} chooses its graphs by itself: leave out --kind {about.asked}")
        count, listed = self.table.living, self.table.is_listed
        kind = HNSW if listed else FLAT
        why = f"{kind}: {count:,} photos are {'linked by graphs' if listed else 'compared one by one'}"
        return replace(about, trunk=None, precision="float16", kind=kind, why=why if count else About.why)


def _known(value: float, unknown: float) -> float | None:
    """None for an unknown number."""
    return None if value == unknown or value != value else value
