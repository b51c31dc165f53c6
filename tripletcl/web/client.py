"""A served run, asked from another program: `tripletcl serve RUN` there, `tripletcl.Client(url)` here.

It needs the standard library only.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from tripletcl.errors import UserError

PREFIX = "/api/v1"
PAGE = 100
"""Hits asked for at a time."""
POLL_SECONDS = 0.3


class Client:
    """The interface of a served run for programs, by the names of its routes.

    Answers are what the server's JSON says, as documented at URL/api/v1/docs.

    Args:
        url: The server's address, `http://localhost:7860`.
        token: The token, where the server asks for one.
        timeout: Seconds to wait for an answer.

    Raises:
        UserError: this is no address of a server; and from each method, whatever the server refuses, in its sentence.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise UserError(f"{url!r:.80} is no address of a server; write http://localhost:7860")
        self.url, self.timeout = url.rstrip("/"), timeout
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    # --- questions ---------------------------------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Tell what is served: the run, its stage, and the number of its photos."""
        return self._json("GET", "/")

    def query(
        self,
        words: str = "",
        k: int = 10,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        **filters: object,
    ) -> dict[str, Any]:
        """Find the k photos that fit a request best.

        Args:
            words: What they show: "person riding horse", "?, riding, ?", "dog - snow".
            k: The number of photos.
            like: Ids of photos that show what is wanted, too.
            unlike: Ids of photos that show what is not wanted.
            filters: `after`, `before`, `folder`, `name`, `camera`, `orientation`, `near`, as texts.

        Returns:
            `hits`, best first, and how the request was understood.
        """
        fields = {"words": words, "like": like, "unlike": unlike, "k": k, **filters}
        answer = self._json("GET", "/query", {**fields, "limit": min(k, PAGE)})
        while answer["next_offset"] is not None:
            more = self._json("GET", "/query", {**fields, "limit": PAGE, "offset": answer["next_offset"]})
            answer |= {"hits": answer["hits"] + more["hits"], "next_offset": more["next_offset"]}
        return answer

    def similar(self, photo: str, k: int = 10, **filters: object) -> dict[str, Any]:
        """Find the k photos that show most nearly the same as a photo of the index, by its id; as `query`."""
        return self.query("", k, like=[photo], unlike=(), **filters)

    def describe(self, photo: str | Path, k: int = 5) -> list[dict[str, Any]]:
        """Name the k facts that a photo shows best: a file, or the id of a photo of the index."""
        if _is_file(photo):
            return self._json("POST", f"/describe?k={k}", files=[("photo", Path(photo))])["facts"]
        return self._json("GET", f"/photos/{quote(str(photo), safe='')}/facts", {"k": k})["facts"]

    # --- photos ------------------------------------------------------------------------------------------------------

    def photos(self, k: int = 100, **filters: object) -> list[dict[str, Any]]:
        """List the k latest photos that meet the filters, by date."""
        listed: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None and len(listed) < k:
            wanted = min(k - len(listed), PAGE)
            page = self._json("GET", "/photos", {**filters, "offset": offset, "limit": wanted})
            listed, offset = listed + page["photos"], page["next_offset"]
        return listed

    def export(self, photos: Sequence[str], form: str = "zip") -> bytes:
        """Read chosen photos, by their ids: "list", "csv", "json", or a "zip" of their files."""
        return self._read("POST", "/export", fields=[("form", form), ("ids", " ".join(photos))])

    def export_into(
        self, photos: Sequence[str], folder: str, form: str = "copies", *, wait: bool = True
    ) -> dict[str, Any]:
        """Write chosen photos into a folder of the server's machine, where the server allows it; no file is replaced.

        Args:
            photos: Their ids.
            folder: An absolute path there.
            form: "copies", or "links": symbolic links.
            wait: False to return the job at once; `job` tells how far it is.

        Returns:
            `folder`, and the names that are `written` and `missing`; or the job.
        """
        wanted = {"ids": [*photos], "folder": str(folder), "form": form}
        return self._finished(self._json("POST", "/export/folder", body=wanted), wait)

    def duplicates(self) -> list[dict[str, Any]]:
        """Look for photos that are nearly the same: groups with their `photos`, the largest first, and `bits`."""
        self._finished(self._json("POST", "/duplicates", fields=[]), wait=True)
        groups: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = self._json("GET", "/duplicates", {"offset": offset, "limit": PAGE})
            groups, offset = groups + page["groups"], page["next_offset"]
        return groups

    def photo(self, photo: str) -> dict[str, Any]:
        """Tell the details of a photo, by its id."""
        return self._json("GET", f"/photos/{quote(photo, safe='')}")

    def thumbnail(self, photo: str, size: int = 320) -> bytes:
        """Read a small JPEG of a photo, by its id."""
        return self._read("GET", f"/photos/{quote(photo, safe='')}/thumbnail", {"size": size})

    def file(self, photo: str) -> bytes:
        """Read the file of a photo, by its id."""
        return self._read("GET", f"/photos/{quote(photo, safe='')}/file")

    # --- lessons -----------------------------------------------------------------------------------------------------

    def teach(
        self, fact: str, photos: Iterable[str | Path], *, hold_out: bool = True, wait: bool = True
    ) -> dict[str, Any]:
        """Teach a fact by a handful of photos.

        Args:
            fact: "person riding unicycle".
            photos: Files, or ids of photos of the index.
            hold_out: False to learn from all of them.
            wait: False to return the job at once; `job` tells how far it is.

        Returns:
            What the lesson came to; or the job.
        """
        given = list(photos)
        files = [("photos", Path(each)) for each in given if _is_file(each)]
        ids = [("ids", str(each)) for each in given if not _is_file(each)]
        fields = [("fact", fact), ("hold_out", str(hold_out).lower()), *ids]
        return self._finished(self._json("POST", "/teach", fields=fields, files=files), wait)

    def undo(self, *, wait: bool = True) -> dict[str, Any]:
        """Undo the latest lesson; returns as `teach`."""
        return self._finished(self._json("POST", "/undo", fields=[]), wait)

    def tasks(self) -> list[dict[str, Any]]:
        """List the tasks that the run has learned."""
        return self._json("GET", "/tasks")

    def jobs(self) -> list[dict[str, Any]]:
        """List the server's long work, the latest first."""
        return self._json("GET", "/jobs")

    def job(self, job: str) -> dict[str, Any]:
        """Tell the progress of long work, by its id."""
        return self._json("GET", f"/jobs/{quote(job, safe='')}")

    def _finished(self, job: dict[str, Any], wait: bool) -> dict[str, Any]:
        while wait and job["state"] in ("waiting", "running"):
            time.sleep(POLL_SECONDS)
            job = self.job(job["id"])
        if job["state"] == "failed":
            raise UserError(job["error"])
        return job["result"] if wait else job

    # --- requests ----------------------------------------------------------------------------------------------------

    def _json(
        self,
        method: str,
        route: str,
        query: Mapping[str, object] | None = None,
        fields: Sequence[tuple[str, str]] | None = None,
        files: Sequence[tuple[str, Path]] = (),
        body: object = None,
    ) -> Any:
        return json.loads(self._read(method, route, query, fields, files, body))

    def _read(
        self,
        method: str,
        route: str,
        query: Mapping[str, object] | None = None,
        fields: Sequence[tuple[str, str]] | None = None,
        files: Sequence[tuple[str, Path]] = (),
        body: object = None,
    ) -> bytes:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        address = f"{self.url}{PREFIX}{route}" + (f"?{urlencode(given, doseq=True)}" if given else "")
        headers, data = dict(self._headers), None
        if body is not None:
            headers["content-type"], data = "application/json", json.dumps(body).encode()
        elif method == "POST":
            boundary = secrets.token_hex(16)
            headers["content-type"] = f"multipart/form-data; boundary={boundary}"
            data = b"".join(_parts(boundary, fields or (), files))
        try:
            with urlopen(Request(address, data, headers, method=method), timeout=self.timeout) as answer:
                return answer.read()
        except HTTPError as error:
            raise UserError(_sentence(error)) from None
        except (URLError, TimeoutError, ConnectionError) as error:
            raise UserError(f"{self.url} does not answer: {getattr(error, 'reason', error)}") from None


def _is_file(photo: str | Path) -> bool:
    """True for a file; the id of a photo has neither a dot nor a slash."""
    return isinstance(photo, Path) or bool({".", "/", "\\"} & set(photo))


def _parts(boundary: str, fields: Sequence[tuple[str, str]], files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """The body of a form (RFC 7578)."""
    for name, value in fields:
        yield f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, path in files:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        quoted = "".join("_" if letter in '"\r\n\\' else letter for letter in path.name)
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"; filename="{quoted}"\r\n'
        yield f"{head}content-type: {kind}\r\n\r\n".encode("utf-8", "replace") + _content(path) + b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _sentence(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the server answers {error.code} {error.reason}"
