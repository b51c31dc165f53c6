"""The interface for programs: every route calls what the command line calls, and answers in JSON."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

import tripletcl
from tripletcl.data.media import VIDEO, video_second
from tripletcl.errors import UserError, excerpt
from tripletcl.files.addresses import Place, may_hold_index
from tripletcl.report.html import macros
from tripletcl.retrieval import Filter, ShownFact
from tripletcl.runs.asking import Answer, ask
from tripletcl.runs.history import task_records
from tripletcl.runs.teach import Lesson, lesson_fact, teach, undo
from tripletcl.web.api_models import About, Facts, Failure, Found, Hit, Job, Listed, Photo, Present, Shown, Task
from tripletcl.web.duplicates import add_duplicates
from tripletcl.web.export import SUFFIXES, write_export
from tripletcl.web.folders import add_folders
from tripletcl.web.jobs import Job as Work
from tripletcl.web.jobs import Jobs, NotHere
from tripletcl.web.photo_library import Library, shown
from tripletcl.web.reveal import reveal
from tripletcl.web.server import PREFIX
from tripletcl.web.thumbnails import Thumbnails
from tripletcl.web.uploads import REQUEST_PHOTOS, TooLarge, Uploads

log = logging.getLogger("tripletcl")

MOST_HITS, MOST_EXAMPLES, MOST_CHARACTERS = 500, 20, 500
SIZES = (320, 1600)
"""Pixels of the longer side of a thumbnail: in a grid, and on a screen."""
CACHE_SECONDS = 3600

AT_ONCE = 4
"""Questions that are answered at a time. The others wait in line: who comes first is answered first, where forty
threads that share the processors would all end late."""

DESCRIPTION = """Ask a photo collection, describe photos, and teach a run new facts.

Every refusal is `{"error": "one sentence"}` with a status from 400 on. Where the server can be reached from other
machines, each request carries `Authorization: Bearer TOKEN`.
"""


async def _filter(  # FastAPI calls any other function in a thread
    after: Annotated[str, Query(description="From this year, month or day on: 2019, 2019-06, 2019-06-30.")] = "",
    before: Annotated[str, Query(description="Up to this year, month or day.")] = "",
    folder: Annotated[str, Query(description="A folder in the path, or several in a row.")] = "",
    name: Annotated[str, Query(description="A pattern of the file's name: IMG_*.")] = "",
    camera: Annotated[str, Query(description="A part of the camera's name.")] = "",
    orientation: Annotated[str, Query(description="landscape, portrait or square.")] = "",
    near: Annotated[str, Query(description="latitude,longitude,km.")] = "",
) -> Filter:
    return Filter.parse(
        after=after, before=before, folder=folder, name=name, camera=camera, orientation=orientation, near=near
    )


def _known_parameters(request: Request) -> None:
    """Refuse a parameter that a route does not have: a filter that is misspelled would let all photos through."""
    described = request.app.openapi()["paths"].get(request.scope["route"].path, {}).get(request.method.lower(), {})
    known = [each["name"] for each in described.get("parameters", ()) if each["in"] == "query"]
    if unknown := [name for name in request.query_params if name not in known]:
        raise UserError(f"there is no parameter {excerpt(unknown[0])}; allowed here: {', '.join(known) or 'none'}")


Where = Annotated[Filter, Depends(_filter)]
Offset = Annotated[int, Query(ge=0, description="Hits to skip: `next_offset` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MOST_HITS, description="Hits on a page.")]
Most = Annotated[int | None, Query(ge=1, description="Hits on all pages together; all photos by default.")]
Examples = Annotated[list[str], Query(max_length=MOST_EXAMPLES, description="Ids of photos.")]
Count = Annotated[int, Query(ge=1, le=100, description="Number of facts.")]


def build_api(
    library: Library,
    jobs: Jobs,
    uploads: Uploads,
    *,
    may_teach: bool = True,
    own_machine: bool = True,
    may_write: bool = True,
    memory: bool = True,
) -> FastAPI:
    """Build the application that is mounted at PREFIX.

    Args:
        library: The photos.
        jobs: The server's long work.
        uploads: The photos that visitors upload.
        may_teach: True if visitors may teach the run.
        own_machine: True if the server can be reached from its own machine only, so that it may show files there.
        may_write: True if visitors may have photos written into folders of the server's machine: it is theirs, or they
            have signed in and may change the run.
        memory: True if the server has the page of stages and methods.
    """
    failures: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": Failure, "description": "It was refused, for the reason given."}
    }
    api = FastAPI(
        title="tripletcl",
        version=tripletcl.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses=failures,
        dependencies=[Depends(_known_parameters)],
    )
    for kind, handler in HANDLERS.items():
        api.add_exception_handler(kind, handler)

    @api.get("/", tags=["run"], summary="The run that is served")
    def about() -> About:
        photos, stage = library.photos, library.stored.stage
        facts = len(photos.embedder.facts)
        return About(
            version=tripletcl.__version__,
            run=shown(library.run.resolve().name),
            stage=stage,
            index_stage=photos.stage,
            photos=len(photos.index),
            facts=facts,
            may_teach=may_teach,
            files=own_machine,
            folders=may_write,
            memory=memory,
        )

    @api.get("/vocabulary", tags=["run"], summary="The facts that can be asked for, in words")
    def vocabulary() -> list[str]:
        return [" ".join(filter(None, fact.units)) for fact in library.photos.embedder.facts]

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(macros("web/templates/api_docs.html.j2").page(api.openapi(), PREFIX))

    _add_questions(api, library, uploads)
    _add_photos(api, library, own_machine)
    _add_lessons(api, library, jobs, uploads, may_teach)
    add_duplicates(api, library, jobs)
    if may_write:
        add_folders(api, library, jobs)
    return api


def _json(answer: BaseModel) -> Response:
    """An answer that is valid as it was made: FastAPI would check it again, in another thread."""
    return Response(answer.model_dump_json(), media_type="application/json")


# --- questions -------------------------------------------------------------------------------------------------------


def _add_questions(api: FastAPI, library: Library, uploads: Uploads) -> None:
    turns = CapacityLimiter(AT_ONCE)

    @api.get("/query", tags=["photos"], summary="Photos that show something", response_model=Found)
    async def query(
        where: Where,
        words: Annotated[
            str,
            Query(max_length=MOST_CHARACTERS, description="`dog running`, `person, riding, ?`, `dog - snow`."),
        ] = "",
        like: Examples = [],  # noqa: B006 (FastAPI copies it)
        unlike: Examples = [],  # noqa: B006
        k: Most = None,
        offset: Offset = 0,
        limit: Limit = 24,
    ) -> Response:
        """Read as the command line's `query` reads its words; `like` and `unlike` are example photos."""

        def page() -> Response:
            wanted, unwanted = ([library.path(each) for each in ids] for ids in (like, unlike))
            return _json(_page(library, words, wanted, unwanted, where, k, offset, limit))

        return await to_thread.run_sync(page, limiter=turns)

    @api.get("/photos/{photo}/similar", tags=["photos"], summary="Photos that show the same", response_model=Found)
    async def similar(photo: str, where: Where, k: Most = None, offset: Offset = 0, limit: Limit = 24) -> Response:
        def page() -> Response:
            return _json(_page(library, "", [library.path(photo)], [], where, k, offset, limit))

        return await to_thread.run_sync(page, limiter=turns)

    @api.get("/photos/{photo}/facts", tags=["photos"], summary="The facts that a photo of the index shows")
    def facts(photo: str, k: Count = 5) -> Facts:
        return _facts(library.describe([library.path(photo)], k)[0])

    @api.post("/describe", tags=["photos"], summary="The facts that an uploaded photo shows")
    def describe(photo: Annotated[UploadFile, File(description="An image file.")], k: Count = 5) -> Facts:
        paths = uploads.store([photo])
        try:
            return _facts(library.describe(paths, k)[0])
        finally:
            uploads.remove(paths)


def _page(
    library: Library,
    words: str,
    like: list[Path],
    unlike: list[Path],
    where: Filter,
    k: int | None,
    offset: int,
    limit: int,
) -> Found:
    """The hits from `offset` on, of the k best; one more is asked for to see whether there is a next page."""
    photos = library.photos
    most = len(photos.index) if k is None else min(k, len(photos.index))
    end = min(offset + limit, most)
    found: Answer = ask(photos, words, max(1, min(end + 1, most)), like=like, unlike=unlike, where=where)
    shown_hits = found.hits[offset:end]
    details = photos.index.details(hit.path for hit in shown_hits)
    hits = [Hit.of(each, score=hit.score) for hit, each in zip(shown_hits, details, strict=True)]
    following = end if len(found.hits) > end else None
    return Found(
        query=str(found.request),
        stage=photos.stage,
        scale=found.scale,
        notes=found.notes,
        presence=[Present(text=each.text, value=each.value) for each in found.presence],
        suggestion=found.suggestion,
        hits=hits,
        offset=offset,
        next_offset=following,
    )


def _facts(entries: list[ShownFact]) -> Facts:
    return Facts(
        facts=[
            Shown(fact=list(each.fact.units), text=str(each.fact), score=each.score, probability=each.probability)
            for each in entries
        ]
    )


# --- photos ----------------------------------------------------------------------------------------------------------


def _add_photos(api: FastAPI, library: Library, own_machine: bool) -> None:
    thumbnails = Thumbnails()

    @api.get("/photos", tags=["photos"], summary="Photos by date, the latest first", response_model=Listed)
    def photos(where: Where, offset: Offset = 0, limit: Limit = 24) -> Response:
        index = library.photos.index
        rows = index.newest(where)
        paths = [index.paths[row] for row in rows[offset : offset + limit].tolist()]
        following = offset + limit if offset + limit < len(rows) else None
        listed = [Photo.of(each) for each in index.details(paths)]
        return _json(Listed(photos=listed, total=len(rows), offset=offset, next_offset=following))

    @api.get("/photos/{photo}", tags=["photos"], summary="A photo's details")
    def details(photo: str) -> Photo:
        path = library.path(photo)
        return Photo.of(library.photos.index.details([path])[0], second=_second(path))

    @api.post("/export", tags=["photos"], summary="Chosen photos as a list, a table or an archive")
    def export(
        ids: Annotated[list[str], Form(description="Ids of photos; one field may have many, between spaces.")],
        form: Annotated[Literal["list", "csv", "json", "zip"], Form(description="list, csv, json or zip.")] = "list",
    ) -> FileResponse:
        chosen = library.photos.index.details(library.path(each) for each in " ".join(ids).split())
        file = write_export(chosen, form)
        name = f"photos.{SUFFIXES[form]}"
        return FileResponse(file, filename=name, background=BackgroundTask(file.unlink, missing_ok=True))

    @api.get(
        "/photos/{photo}/thumbnail",
        tags=["photos"],
        summary="A small picture",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    def thumbnail(
        photo: str, size: Annotated[int, Query(description=f"{SIZES[0]} or {SIZES[1]} pixels at most.")] = SIZES[0]
    ) -> Response:
        if size not in SIZES:
            raise UserError(f"a thumbnail has {' or '.join(map(str, SIZES))} pixels, not {size}")
        path = library.path(photo)
        headers = {"cache-control": f"private, max-age={CACHE_SECONDS}"}
        return Response(thumbnails.jpeg(path, _modified(path), size), media_type="image/jpeg", headers=headers)

    @api.get("/photos/{photo}/file", tags=["photos"], summary="The file itself", response_class=FileResponse)
    def file(
        photo: str, download: Annotated[bool, Query(description="To be saved instead of shown.")] = False
    ) -> FileResponse:
        path = library.path(photo)
        if not path.is_file():
            raise NotHere(f"{shown(path)} does not exist any more")
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        how = "attachment" if download or not kind.startswith("image/") else "inline"
        return FileResponse(path, media_type=kind, filename=shown(path.name), content_disposition_type=how)

    if own_machine:

        @api.post("/photos/{photo}/show", tags=["photos"], summary="Show the file in its folder, on this machine")
        def show(photo: str) -> Photo:
            path = library.path(photo)
            reveal(path)
            return Photo.of(library.photos.index.details([path])[0])


def _second(path: Path) -> float | None:
    """When a video shows the picture that it is found by; None for what is no video that can be read."""
    with suppress(Exception):  # as for its picture: PyAV raises nearly anything
        return video_second(path) if path.suffix.lower() in VIDEO else None
    return None


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        raise NotHere(f"{shown(path)} does not exist any more") from None


# --- lessons ---------------------------------------------------------------------------------------------------------


def _add_lessons(api: FastAPI, library: Library, jobs: Jobs, uploads: Uploads, may_teach: bool) -> None:
    @api.get("/tasks", tags=["lessons"], summary="The tasks that the run has learned")
    def tasks() -> list[Task]:
        return [Task(**{**asdict(record), "facts": list(record.facts)}) for record in task_records(library.run)]

    @api.get("/jobs", tags=["lessons"], summary="Long work, the latest first")
    def all_jobs() -> list[Job]:
        return [Job.of(job) for job in jobs.list()]

    @api.get("/jobs/{job}", tags=["lessons"], summary="The progress of long work")
    def one_job(job: str) -> Job:
        return Job.of(jobs.get(job))

    if not may_teach:
        return

    @api.post("/teach", status_code=202, tags=["lessons"], summary="Teach a fact by a handful of photos")
    def start_lesson(
        fact: Annotated[str, Form(max_length=MOST_CHARACTERS, description="`person riding unicycle`.")],
        photos: Annotated[list[UploadFile], File(description="Image files.")] = [],  # noqa: B006
        ids: Annotated[list[str], Form(description="Ids of photos in the index.")] = [],  # noqa: B006
        hold_out: Annotated[bool, Form(description="Hold out one of five, to measure how well it learned.")] = True,
    ) -> Job:
        """Answers at once; `/jobs/{id}` tells how far it is, and what it came to."""
        known = [library.path(each) for each in ids]
        if not 0 < len(known) + len(photos) <= REQUEST_PHOTOS:
            raise UserError(f"a lesson takes from 1 to {REQUEST_PHOTOS} photos, not {len(known) + len(photos)}")
        lesson_fact(library.run, fact)  # what cannot be read is refused at once
        work = Work("teach", fact)
        uploaded = uploads.store(photos)
        uploads.show(work.id, "lesson", uploaded)

        def learn(_: Work) -> dict[str, Any]:
            try:
                return _outcome(teach(library.run, fact, [*known, *uploaded], index=_index(library), hold_out=hold_out))
            finally:
                uploads.forget(work.id)
                library.follow()

        jobs.start(work, learn)
        return Job.of(work)

    @api.post("/undo", status_code=202, tags=["lessons"], summary="Undo the latest lesson")
    def start_undo() -> Job:
        work = Work("undo", "the latest lesson")

        def take_back(_: Work) -> dict[str, Any]:
            try:
                return _outcome(undo(library.run, index=_index(library)))
            finally:
                library.follow()

        jobs.start(work, take_back)
        return Job.of(work)


def _index(library: Library) -> Place | None:
    """The index that follows the run; None where there is none yet."""
    return library.index if may_hold_index(library.index) else None


def _outcome(lesson: Lesson) -> dict[str, Any]:
    skipped = [{"name": shown(Path(str(photo)).name), "reason": reason} for photo, reason in lesson.skipped]
    return {**vars(lesson), "fact": list(lesson.fact.units), "text": str(lesson.fact), "skipped": skipped}


# --- refusals --------------------------------------------------------------------------------------------------------


def _refused(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _user_error(_: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, NotHere) else 413 if isinstance(error, TooLarge) else 400
    return _refused(status, shown(str(error)))


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refused(error.status_code, "there is no such address" if error.status_code == 404 else error.detail)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _refused(422, f"{where or 'the request'}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def _failed(_: Request, error: Exception) -> Response:
    log.error("the server could not answer a program", exc_info=error)
    return _refused(500, f"this did not work ({type(error).__name__}); see the terminal of the server")


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    UserError: _user_error,
    HTTPException: _http_error,
    RequestValidationError: _invalid,
    Exception: _failed,
}
