"""What the page answers: from the exhibit and what was asked for to HTML, without Gradio."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from html import escape
from pathlib import Path

from tripletcl.report.formatting import counted, duration, fraction
from tripletcl.report.grouping import highest_score
from tripletcl.report.sentences import headline
from tripletcl.retrieval import Request
from tripletcl.runs.teach import Taught
from tripletcl.web import markup
from tripletcl.web.asking import Found, ap_over_stages, ask, remarks, truth
from tripletcl.web.exhibit import ALONE, Exhibit
from tripletcl.web.galleries import Gallery
from tripletcl.web.lessons import Lessons
from tripletcl.web.plots import query_curve, task_curves
from tripletcl.web.reading import read_photo, read_seen
from tripletcl.web.shown import ShownRun, load_model

FACTS_READ = 6
"""Facts named for a photo."""

UNFINISHED = "This run is not finished yet: its figures come with its last task."


def warm_up(exhibit: Exhibit) -> None:
    """Do what the first visitor would wait for: load a model and its words, and draw a first picture."""
    folder = exhibit.main.folder(exhibit.main.last)
    load_model(folder).encode_units(["warm"])
    curves(exhibit, exhibit.main.last, ALONE)


def header(exhibit: Exhibit, beside: str) -> str:
    """The run, and what becomes of its first task: the report's headline for the methods shown."""
    results = [result for shown in exhibit.beside(beside) if (result := shown.result) is not None]
    tasks = len(results[0].tasks) if results else 0
    results = [result for result in results if len(result.tasks) == tasks]  # or they are not after as many tasks
    run = exhibit.main.run.path.resolve()
    return (
        f'<p class="lead">{escape(run.parent.name)} / {escape(run.name)}</p>'
        f"<h1>{escape(headline(results) if results else UNFINISHED)}</h1>"
    )


def stage_line(exhibit: Exhibit, stage: int) -> str:
    """What the run had been taught at a stage."""
    return markup.sentence(exhibit.stage_sentence(stage))


def _each(exhibit: Exhibit, stage: int, beside: str, column: Callable[[ShownRun], tuple[str, str] | None]) -> list[str]:
    """A column for each method shown, of what `column` makes of it: a note beside its name, and its content."""
    styles = exhibit.styles(beside)
    columns = []
    for shown in exhibit.beside(beside):
        if (made := column(shown)) is not None:
            note = ", ".join(filter(None, [_when(shown, stage), made[0]]))
            columns.append(markup.side(markup.swatch(styles[shown.method]), shown.label, note, made[1]))
    return columns


def _when(shown: ShownRun, stage: int) -> str:
    own = shown.stage(stage)
    if own == 0:
        return "before training"
    return "after all tasks at once" if shown.joint else f"after task {own}"


# --- search ----------------------------------------------------------------------------------------------------------


def results(
    exhibit: Exhibit, gallery: Gallery, request: Request, stage: int, beside: str, k: int, picked: Collection[str]
) -> str:
    """The photos that each method finds at a stage."""

    def column(shown: ShownRun) -> tuple[str, str]:
        found = ask(gallery, shown, stage, request, k)
        if found is None:
            return "", markup.empty(gallery.unseen(shown))
        return _count(found), markup.grid(gallery, found, picked)

    return markup.side_by_side(_each(exhibit, stage, beside, column))


def _count(found: Found) -> str:
    return "" if found.ap is None else f"{found.right} of {len(found.tiles)} right"


def notes(exhibit: Exhibit, gallery: Gallery, request: Request, stage: int) -> str:
    """How a request was understood, and what of it was never trained."""
    right = truth(gallery, request)
    how_many = "" if right is None else f": {int(right.sum()):,} of {gallery.title} are labelled so"
    understood = f'<p class="understood">Asked for <b>{escape(str(request))}</b>{how_many}.</p>'
    return understood + markup.sentences(remarks(exhibit.main, stage, request))


def curve(exhibit: Exhibit, gallery: Gallery, request: Request, stage: int, beside: str) -> str:
    """The request's AP after each task, of each method; nothing where the truth is not known."""
    found = {shown.method: ap_over_stages(gallery, shown, request) for shown in exhibit.beside(beside)}
    values = {method: aps for method, aps in found.items() if aps is not None}
    if not values or max(map(len, values.values())) < 3:
        return ""
    title = f"AP of {request} after each task"
    return markup.pictures([query_curve(title, values, exhibit.styles(beside), stage)])


def look(exhibit: Exhibit, key: str, stage: int, beside: str, picked: Collection[str], times: int) -> str:
    """One photo, what it is labelled with, and what each method reads from it."""
    gallery, number = exhibit.photo(key)
    labels = set(map(str, gallery.labels(number)))

    def column(shown: ShownRun) -> tuple[str, str] | None:
        seen = gallery.seen(shown, stage)
        row = None if seen is None else seen.row(number)
        if seen is None or row is None:
            return None
        return "", markup.facts_read(read_seen(seen, row, shown, stage, FACTS_READ), labels)

    return markup.looked_at(gallery, number, key in picked, _each(exhibit, stage, beside, column), times)


# --- a photo ---------------------------------------------------------------------------------------------------------


def described(exhibit: Exhibit, photo: Path | None, stage: int, beside: str) -> str:
    """The facts that each method reads from a photo at a stage."""
    if photo is None:
        return markup.empty("Drop a photo, and the facts that it shows are named here.")

    def column(shown: ShownRun) -> tuple[str, str]:
        return "", markup.facts_read(read_photo(photo, shown, stage, FACTS_READ))

    return markup.side_by_side(_each(exhibit, stage, beside, column))


# --- memory ----------------------------------------------------------------------------------------------------------


def matrices(exhibit: Exhibit, stage: int, beside: str) -> str:
    """Each method's MAP of each task after each stage."""
    finished = [result for shown in exhibit.beside(beside) if (result := shown.result) is not None]
    if not finished:
        return markup.empty(UNFINISHED)
    top = highest_score({str(number): [result] for number, result in enumerate(finished)})

    def column(shown: ShownRun) -> tuple[str, str]:
        result = shown.result
        if result is None:
            return "", markup.empty(UNFINISHED)
        own = min(shown.stage(stage), len(result.matrix) - 1)
        return markup.figures_at(result, own), markup.matrix(result, own, top)

    return markup.side_by_side(_each(exhibit, stage, beside, column))


def curves(exhibit: Exhibit, stage: int, beside: str) -> str:
    """MAP of each task over the stages, the methods in one picture."""
    found = [result for shown in exhibit.beside(beside) if (result := shown.result) is not None]
    return markup.pictures(task_curves(found, stage)) if any(len(result.matrix) > 2 for result in found) else ""


# --- teaching --------------------------------------------------------------------------------------------------------


def photos(exhibit: Exhibit, picked: Sequence[str], dropped: Sequence[Path]) -> str:
    """The photos picked and dropped so far to teach a fact."""
    chosen = list(zip(picked, exhibit.photo_paths(picked), strict=True))
    chosen += [(f"dropped:{number}", path) for number, path in enumerate(dropped)]
    if not chosen:
        return markup.empty(
            "No photo yet: drop some below, or pick them by the + on the photos that a search found. "
            "One of five is held out, to tell how well the fact was learned."
        )
    return markup.strip(chosen)


def taught(lesson: Taught) -> str:
    """What came of a lesson."""
    held_out = ""
    if lesson.map_held_out is not None:
        photos = counted(lesson.held_out, "photo")
        held_out = f"; MAP {fraction(lesson.map_held_out, 2)} on {photos} held out of it"
    return markup.sentence(
        f"Learned {lesson.fact} from {counted(lesson.photos, 'photo')} in {duration(lesson.seconds)}{held_out}. "
        f"It is task {lesson.stage} now, and Search shows what it finds.",
        "done",
    ) + _beside_it(lesson)


def taken_back(lesson: Taught) -> str:
    """What was undone."""
    said = f"{lesson.fact} is taken back: the run is as it was before that lesson."
    return markup.sentence(said, "done") + _beside_it(lesson)


def _beside_it(lesson: Taught) -> str:
    """Photos that could not be read, and what became of the index."""
    skipped = [f"Skipped {photo.name}: {reason}." for photo, reason in lesson.skipped]
    return markup.sentences([*skipped, *([f"Your photos' index: {lesson.index}."] if lesson.index else [])])


def tasks(lessons: Lessons) -> str:
    """What the run knows, a row a task."""
    return markup.task_table(lessons.tasks())
