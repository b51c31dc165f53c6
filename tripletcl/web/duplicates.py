"""Near-duplicates for the page and for programs: long work that looks for them, and pages of what it found."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from tripletcl.retrieval.duplicates import Duplicates, find_duplicates
from tripletcl.web.api_models import Groups, Job, Photo, SamePhotos
from tripletcl.web.jobs import Job as Work
from tripletcl.web.jobs import Jobs
from tripletcl.web.photo_library import Library

MOST_GROUPS = 200


def add_duplicates(api: FastAPI, library: Library, jobs: Jobs) -> None:
    """Add the routes to an interface; the server holds the groups that were found last."""
    found: list[Duplicates] | None = None

    def look(_: Work) -> dict[str, Any]:
        nonlocal found
        found = find_duplicates(library.photos.index)
        return {"groups": len(found), "photos": sum(len(group.photos) for group in found)}

    @api.post("/duplicates", status_code=202, tags=["photos"], summary="Look for photos that are nearly the same")
    def start() -> Job:
        """Answers at once; `/jobs/{id}` tells how far it is. `GET /duplicates` has what was found."""
        work = Work("duplicates", "all photos")
        jobs.start(work, look)
        return Job.of(work)

    @api.get("/duplicates", tags=["photos"], summary="Groups of near-duplicates, the largest first")
    def groups(
        offset: Annotated[int, Query(ge=0, description="Groups to skip.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_GROUPS, description="Groups on a page.")] = 50,
    ) -> Groups:
        """Photos that have left the index since are left out, and so are groups of which one photo is left."""
        page = (found or [])[offset : offset + limit]
        following = offset + limit if offset + limit < len(found or []) else None
        answers = [each for group in page if len((each := _living(group, library)).photos) > 1]
        return Groups(
            looked=found is not None, groups=answers, total=len(found or []), offset=offset, next_offset=following
        )


def _living(group: Duplicates, library: Library) -> SamePhotos:
    index = library.photos.index
    photos = [Photo.of(each) for each in group.photos if index.row(each.path) is not None]
    return SamePhotos(photos=photos, bits=group.bits)
