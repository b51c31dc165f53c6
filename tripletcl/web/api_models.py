"""The answers of the interface for programs, as its documentation shows them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from tripletcl.retrieval.details import PhotoDetails
from tripletcl.web.jobs import Job as Work
from tripletcl.web.photo_library import photo_id, shown


class Failure(BaseModel):
    """Any refusal or failure: one sentence, the same that the command line prints."""

    error: str


class IntoFolder(BaseModel):
    """Photos to be written into a folder of the server's machine."""

    ids: list[str] = Field(description="Ids of photos.", min_length=1)
    folder: str = Field(description="An absolute path; ~ is the home folder of the server's user.", max_length=4000)
    form: Literal["copies", "links"] = Field("copies", description="copies, or links: symbolic links.")


class About(BaseModel):
    """The run that is served."""

    version: str = Field(description="The version of tripletcl.")
    run: str = Field(description="The name of the run's folder.")
    stage: int | None = Field(description="The latest stage.")
    index_stage: int | None = Field(description="The stage that the photos are searched by.")
    photos: int = Field(description="The number of photos in the index.")
    facts: int = Field(description="The number of facts that the model was taught.")
    may_teach: bool
    files: bool = Field(description="True if the server can show a photo in its folder: it serves its own machine.")
    folders: bool = Field(description="True if the server writes photos into folders of its machine.")
    memory: bool = Field(description="True if there is a page of stages and methods, /memory/.")


class Photo(BaseModel):
    """A photo of the index."""

    id: str = Field(description="Its name in addresses.")
    path: str
    name: str
    folder: str
    taken: datetime | None = Field(description="When it was taken, by its EXIF data, in the camera's local time.")
    modified: datetime | None
    camera: str | None
    width: int | None
    height: int | None
    size: int | None = Field(description="Bytes of the file.")
    latitude: float | None
    longitude: float | None
    second: float | None = Field(
        None, description="Of a video, where it is asked for alone: when it shows its picture."
    )

    @classmethod
    def of(cls, details: PhotoDetails, **more: Any) -> Self:
        """The answer about a photo, with what else a kind of it has."""
        names = {"name": shown(details.name), "folder": shown(details.folder), "path": shown(details.path)}
        return cls(**{**asdict(details), **names, "id": photo_id(details.path), **more})


class Listed(BaseModel):
    """A page of photos, the latest date first."""

    photos: list[Photo]
    total: int
    offset: int
    next_offset: int | None


class Hit(Photo):
    """A photo that fits a request."""

    score: float


class SamePhotos(BaseModel):
    """Photos that are nearly the same, the one with the most pixels first."""

    photos: list[Photo]
    bits: int = Field(description="The largest difference of their hashes, in bits of 64.")


class Groups(BaseModel):
    """A page of groups of near-duplicates."""

    looked: bool = Field(description="False before anybody has asked the server to look for them.")
    groups: list[SamePhotos]
    total: int
    offset: int
    next_offset: int | None


class Present(BaseModel):
    """The presence of what was asked for among the photos."""

    text: str = Field(description="A word that was not taught, or the words of taught facts.")
    value: float | None = Field(
        description="The share of what photos show that has no more evidence: below 0.1, nothing is said to show it. "
        "Null for a word that the model does not know."
    )


class Found(BaseModel):
    """A page of the photos that fit a request."""

    query: str = Field(description="The request as it was understood.")
    stage: int | None
    scale: str = Field(description="What a score is: cosines, probability, or score.")
    notes: list[str]
    presence: list[Present]
    suggestion: str | None = Field(
        description="The request in known words, if it has words that are spelled nearly so."
    )
    hits: list[Hit]
    offset: int
    next_offset: int | None = Field(description="Where the next page begins; null on the last one.")


class Shown(BaseModel):
    """A fact that a photo shows."""

    fact: list[str | None] = Field(description="Subject, predicate, object.")
    text: str
    score: float
    probability: float | None


class Facts(BaseModel):
    """The facts that a photo shows, best first."""

    facts: list[Shown]


class Progress(BaseModel):
    """The progress of long work."""

    label: str
    done: int
    total: int


class Job(BaseModel):
    """A piece of long work."""

    id: str
    kind: str
    about: str
    started: str
    state: Literal["waiting", "running", "done", "failed"]
    progress: Progress | None
    result: dict[str, Any] | None
    error: str | None

    @classmethod
    def of(cls, work: Work) -> Self:
        """The answer about a piece of work, as it is now."""
        now = work.progress
        progress = None if now is None else {"label": now.label, "done": now.done, "total": now.total}
        return cls(**{**vars(work), "progress": progress})


class Task(BaseModel):
    """A task that the run has learned."""

    number: int
    name: str
    facts: list[str]
    images: int | None
    learned: str
    stage: int
    map_then: float | None
    map_now: float | None
