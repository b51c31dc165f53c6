"""Reading tables: the three formats agree, and every mistake is named with its row."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripletcl.data.facts import Fact
from tripletcl.data.images import Region
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.data.tables import COLUMNS, read_table, scan_table, table_text, write_table
from tripletcl.errors import UserError

HEADER = "image,subject,predicate,object,split\n"
RECORDS = [
    {"image": "a.jpg", "subject": "dog", "predicate": None, "object": None, "split": "train"},
    {"image": "sub/b é.jpg", "subject": "person", "predicate": "riding", "object": "horse", "split": "train"},
    {"image": "a.jpg", "subject": "dog", "predicate": "lying", "object": None, "split": "train"},
    {"image": "c.jpg", "subject": "person", "predicate": "riding", "object": "horse", "split": "test"},
]


def write_csv(path: Path, records: list[dict]) -> Path:
    lines = [",".join(f'"{record[column] or ""}"' for column in COLUMNS) for record in records]
    path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def write_parquet(path: Path, records: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def csv_file(folder: Path, body: str, header: str = HEADER) -> Path:
    path = folder / "facts.csv"
    path.write_bytes((header + body).encode("utf-8", errors="surrogateescape"))
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("facts.csv", write_csv),
        ("facts.CSV", write_csv),
        ("facts.jsonl", write_jsonl),
        ("facts.ndjson", write_jsonl),
        ("facts.parquet", write_parquet),
    ],
)
def test_formats_give_the_same_table(tmp_path: Path, name: str, write: object) -> None:
    table = read_table(write(tmp_path / name, RECORDS))
    assert table.root == tmp_path
    assert table.images == ("a.jpg", "sub/b é.jpg", "c.jpg")
    assert table.facts == (Fact("dog"), Fact("person", "riding", "horse"), Fact("dog", "lying"))
    assert table.rows.tolist() == [[0, 0], [1, 1], [0, 2], [2, 1]]
    assert table.splits.tolist() == ["train", "train", "train", "test"]
    assert table.groups is None


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).map(str.strip)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(words.filter(bool), words, words, st.sampled_from(["train", "test"])), min_size=1))
def test_any_words_survive_in_every_format(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    """Quotes, commas, line breaks inside cells and any script read back the same from the three formats."""
    import csv

    records = [
        dict(zip(COLUMNS, (f"{i}.jpg", subject, predicate, object_ if predicate else "", split), strict=True))
        for i, (subject, predicate, object_, split) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("words")
    with (folder / "facts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(records)
    expected = [Fact(r["subject"], r["predicate"], r["object"]) for r in records]
    for path in (
        folder / "facts.csv",
        write_jsonl(folder / "facts.jsonl", records),
        write_parquet(folder / "facts.parquet", records),
    ):
        assert [row.fact for row in scan_table(path, fold=False).rows] == expected, path


def test_byte_order_mark_blanks_spare_columns_and_blank_lines(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path, "x, ./a//b.jpg , big  dog ,, ,train\n\n", "\ufeffnote, image,subject,predicate,object,split\n"
    )
    table = read_table(path)
    assert table.images == ("a/b.jpg",)
    assert table.facts == (Fact("big dog"),)


def test_data_frame_blanks_are_missing_units(tmp_path: Path) -> None:
    """A data frame saves an empty column as NaN or as the null type."""
    columns = {
        "image": ["a.jpg"],
        "subject": ["dog"],
        "predicate": pa.array([float("nan")]),
        "object": pa.nulls(1),
        "split": pa.array(["test"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "facts.parquet")
    assert read_table(tmp_path / "facts.parquet").facts == (Fact("dog"),)


def test_row_given_twice_is_kept_once(tmp_path: Path) -> None:
    assert len(read_table(csv_file(tmp_path, "a.jpg,dog,,,train\n./a.jpg,dog,,,train\na.jpg,dog,,,test\n"))) == 2


def test_root_and_task_column(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    body = "b.jpg,dog,,,late,train\na.jpg,cat,,,early,train\na.jpg,dog,,,late,test\n"
    path = csv_file(tmp_path, body, "image,subject,predicate,object,task,split\n")
    table = read_table(path, root=tmp_path / "photos", task_column="task")
    assert table.paths[0] == tmp_path / "photos" / "b.jpg"
    assert table.facts == (Fact("dog"), Fact("cat"))
    assert table.groups == ("late", "early")


def test_symbolic_links_below_the_root_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "elsewhere")
    path = csv_file(tmp_path / "data", "images/a.jpg,dog,,,train\n")
    assert read_table(path).paths == (tmp_path / "data" / "images" / "a.jpg",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg,,,,train", "subject is empty"),
        ("a.jpg, ,riding,horse,train", "subject is empty"),
        ("a.jpg,dog,,ball,train", "<dog, , ball> has an object but no predicate"),
        (",dog,,,train", "image is empty"),
        (".,dog,,,train", "'.' names no file"),
        ("a.jpg,dog,,,valid", "split is 'valid', allowed are 'train' and 'test'"),
        ("a.jpg,dog,,,", "split is '', allowed"),
        ("/etc/a.jpg,dog,,,train", "'/etc/a.jpg' is absolute"),
        ("../a.jpg,dog,,,train", "'../a.jpg' has a '..'"),
        ("sub/../../a.jpg,dog,,,train", "has a '..'"),
        ("a.jpg,dog,,train", "4 cells where the header has 5 columns"),
        ("a.jpg,dog,a,b,c,train", "6 cells where the header has 5 columns"),
        ('"a"x.jpg,dog,,,train', "not valid CSV"),
        ("a.jpg,d\0g,,,train", "subject 'd\\x00g' holds a NUL character"),
        (f"a.jpg,dog,,,{'x' * 500}", "xxx..."),
    ],
)
def test_bad_row_is_named_by_its_line(tmp_path: Path, row: str, reason: str) -> None:
    good = 'a.jpg,"dog\nwith a line break",,,train\n'  # lines 2 and 3
    message = refusal(csv_file(tmp_path, f"{good}\n{row}\n{good}"))
    assert message.startswith(f"{tmp_path / 'facts.csv'} line 5: ")
    assert reason in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("text", "encoding", "sentence"),
    [
        ("a.jpg,caf\u00e9,,,train\n", "cp1252", "line 3: the byte 0xe9 is not UTF-8 text; save the file as UTF-8 (in "),
        ("a.jpg,caf\u00e9,,,train\n", "utf-16", "is UTF-16 text; save it as UTF-8"),
        ("a.jpg,caf\u00e9,,,train\n", "utf-16-le", "is UTF-16 text; save it as UTF-8"),
    ],
)
def test_another_encoding_is_one_sentence(tmp_path: Path, text: str, encoding: str, sentence: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_bytes(f"{HEADER}a.jpg,dog,,,train\n{text * 5}".encode(encoding))
    message = refusal(path)
    assert message.startswith(f"{path} {sentence}")
    assert encoding != "cp1252" or message.endswith("Windows-1252 it reads 'a.jpg,café,,,train')")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_one_sentence(tmp_path: Path, separator: str, name: str) -> None:
    header, body = (
        text.replace(",", separator) for text in ('"image",subject,predicate,object,split\n', "a,b,,,train\n")
    )
    assert refusal(csv_file(tmp_path, body, header)).endswith(f"separates its cells by {name}; save it with commas")


def test_several_bad_rows_are_counted(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a.jpg,,,,train\na.jpg,dog,,,train\na.jpg,dog,,,x\n")
    assert (
        refusal(path) == f"{path} has 2 bad rows; the first, line 2: a fact needs a subject, but its subject is empty"
    )


def test_unclosed_quote_is_named_by_the_line_that_opens_it(tmp_path: Path) -> None:
    assert "line 3: not valid CSV" in refusal(
        csv_file(tmp_path, 'a.jpg,dog,,,train\na.jpg,"dog,,,train\nb.jpg,cat,,,test\n')
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"image": "a.jpg", ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["a.jpg"]', "not a JSON object but ['a.jpg']"),
        ('{"image": 3, "subject": "dog", "split": "train"}', "image is 3, which is not text"),
        ('{"image": "a.jpg", "subject": "d\\ud800g", "split": "train"}', "is not UTF-8 text"),
        ('{"image": "a.jpg", "split": "train"}', "subject is empty"),
    ],
)
def test_bad_json_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(f"\n{json.dumps(RECORDS[1])}\n{line}\n")
    message = refusal(path)
    assert " line 3: " in message
    assert reason in message


def test_columns_that_are_not_read_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    rows = {column: [record[column] for record in RECORDS] for column in COLUMNS}
    others = {
        "name": pa.Array.from_buffers(pa.string(), 4, pa.array([b"\xff"] * 4).buffers()),
        "taken": pa.array([0] * 4, pa.timestamp("us", "Mars/Olympus")),
        "born": pa.array([2**30] * 4, pa.date32()),
    }
    pq.write_table(pa.table({**others, **rows}), path)
    assert len(read_table(path)) == len(RECORDS)
    pq.write_table(pa.table({**rows, "subject": others["name"]}), path)
    assert refusal(path).startswith(f"{path} has something other than UTF-8 text in the column 'subject': ")
    pq.write_table(pa.table({**rows, "subject": others["born"]}), path)
    assert refusal(path).startswith(f"{path} has something other than UTF-8 text in the column 'subject': ")


def test_bad_parquet_row_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "facts.parquet", [*RECORDS, RECORDS[0] | {"subject": None}])
    assert " row 5: " in refusal(path)


@pytest.mark.parametrize("name", ["facts.csv", "facts.jsonl", "facts.parquet"])
def test_unusable_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert refusal(path) == f"{path} cannot be read: No such file or directory"
    path.touch()
    assert refusal(path) == f"{path} is empty"
    path.write_bytes(b"\xff\xfe\x00a")
    assert refusal(path).startswith(f"{path} is ")
    path.unlink()
    path.mkdir()
    (path / "file").touch()
    assert str(path) in refusal(path)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "facts.parquet", RECORDS)
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path} is not a readable Parquet file: " in refusal(path)


def test_columns_are_checked(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a.jpg,dog,train\n", "image,Subject,split\n")
    assert (
        refusal(path) == f"{path} lacks the column 'subject', 'predicate', 'object'; it has 'image', 'Subject', 'split'"
    )
    assert "lacks the column 'task'" in refusal(csv_file(tmp_path, "a.jpg,dog,,,train\n"), task_column="task")
    path = csv_file(tmp_path, "a.jpg,dog,,,train,b.jpg\n", HEADER.strip() + ",image\n")
    assert refusal(path) == f"{path} has the column 'image' twice"
    assert "lacks the column 'image'" in refusal(csv_file(tmp_path, "a.jpg;dog\n", "image;subject\n"))
    path = write_jsonl(tmp_path / "facts.jsonl", [{"image": "a.jpg", "subject": "dog"}])
    assert "lacks the column 'predicate', 'object', 'split'" in refusal(path)
    assert "has a header but no rows" in refusal(csv_file(tmp_path, "\n"))


def test_other_suffix_and_missing_root_are_refused(tmp_path: Path) -> None:
    (tmp_path / "facts.xlsx").write_text("x")
    assert "suffix is '.xlsx', allowed are .csv, .jsonl" in refusal(tmp_path / "facts.xlsx")
    path = csv_file(tmp_path, "a.jpg,dog,,,train\n")
    assert refusal(path, root=tmp_path / "no") == f"the folder of the images, {tmp_path / 'no'}, does not exist"


def test_fact_in_two_tasks_is_refused(tmp_path: Path) -> None:
    body = "a.jpg,dog,,,one,train\nb.jpg,dog,,,two,test\n"
    path = csv_file(tmp_path, body, "image,subject,predicate,object,task,split\n")
    assert "line 3: fact <dog> is in task 'two', but in task 'one' at line 2" in refusal(path, task_column="task")
    path = csv_file(tmp_path, "a.jpg,dog,,,,train\n", "image,subject,predicate,object,task,split\n")
    assert "the task column 'task' is empty" in refusal(path, task_column="task")


def test_real_photographs(data_root: Path) -> None:
    table = read_table(data_root / "facts" / "facts.csv")
    assert (len(table.images), len(table), len(table.facts)) == (8813, 13303, 166)
    assert [sum(fact.order == order for fact in table.facts) for order in (1, 2, 3)] == [5, 16, 145]
    train, test = (set(table.rows_of(split)[:, 0].tolist()) for split in ("train", "test"))
    assert (len(train), len(test), train & test) == (6257, 2556, set())


def test_spellings_of_one_unit_are_one_fact_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["a.jpg,person,,,train", "b.jpg,Person,,,train", "c.jpg,persons,,,test", "d.jpg,person.,,,test"]
    path = csv_file(tmp_path, "\n".join([*rows, "e.jpg,person,,,test"]))
    with caplog.at_level("INFO"):
        assert read_table(path).facts == (Fact("person"),)
    assert "3 spellings or forms of units are read as another: 'Person' as 'person' (1 rows), " in caplog.text
    assert len(read_table(path, fold=False).facts) == 4
    assert read_table(path, known=[Fact("people")]).facts == (Fact("people"),)


def test_units_that_stand_for_nothing_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_table(csv_file(tmp_path, "a.jpg,dog,None,,train\nb.jpg,dog,None,,test\n"))
    assert "units that seem to stand for a missing value: 'None' in 2 rows; leave" in caplog.text


def test_one_fact_in_two_spellings_is_in_one_task(tmp_path: Path) -> None:
    body = "a.jpg,dog,,,one,train\nb.jpg,Dog,,,two,test\nc.jpg,dog,,,one,test\n"
    path = csv_file(tmp_path, body, "image,subject,predicate,object,task,split\n")
    assert "line 3: fact <dog> is in task 'two', but in task 'one' at line 2" in refusal(path, task_column="task")


BOXED = [
    {"image": "a.jpg", "subject": "dog", "split": "train", "x1": 0, "y1": 2.5, "x2": 10.1, "y2": 20},
    {"image": "a.jpg", "subject": "cat", "split": "train", "x1": 10, "y1": 0, "x2": 30, "y2": 20},
    {"image": "a.jpg", "subject": "dog", "split": "train", "x1": None, "y1": None, "x2": None, "y2": None},
    {"image": "b.jpg", "subject": "dog", "split": "test", "x1": 0, "y1": 2, "x2": 11, "y2": 20},
]


def write_records(path: Path, records: list[dict]) -> None:
    """Write records in the format of the path's suffix, None as an empty cell."""
    if path.suffix == ".csv":
        lines = [",".join("" if cell is None else str(cell) for cell in record.values()) for record in records]
        path.write_text(",".join(records[0]) + "\n" + "\n".join(lines))
    else:
        (write_jsonl if path.suffix == ".jsonl" else write_parquet)(path, records)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_row_may_have_a_box(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.{suffix}"
    records = [{"predicate": None, "object": None, **record} for record in BOXED]
    write_records(path, records)
    table = read_table(path)
    assert table.images == ("a.jpg", "a.jpg", "a.jpg", "b.jpg")
    assert table.boxes == ((0, 2, 11, 20), (10, 0, 30, 20), None, (0, 2, 11, 20))
    assert table.photos[2:] == (tmp_path / "a.jpg", Region(tmp_path / "b.jpg", (0, 2, 11, 20)))
    write_table(tmp_path / "again.csv", table)
    again = read_table(tmp_path / "again.csv", absolute=True)
    assert (again.photos, again.rows.tolist()) == (table.photos, table.rows.tolist())


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_row_may_have_a_label(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"facts.{suffix}"
    records = [record | {"label": label} for record, label in zip(RECORDS, [1, 0, None, 1], strict=True)]
    write_records(path, records)
    table = read_table(path)
    assert table.row_labels.tolist() == [SHOWN, NOT_SHOWN, UNKNOWN, SHOWN]
    assert table.rows_of("train").tolist() == [[0, 0]]
    assert table.rows_of("train", label=None).tolist() == [[0, 0], [1, 1], [0, 2]]
    write_table(tmp_path / "again.csv", table)
    again = read_table(tmp_path / "again.csv", absolute=True)
    assert again.row_labels.tolist() == table.row_labels.tolist()
    joined = table.join([table])
    assert joined.row_labels.tolist()[:4] == table.row_labels.tolist()
    for record in records:
        record["label"] = 1
    assert read_table(write_jsonl(tmp_path / "shown.jsonl", records)).labels is None


def test_bad_labels_are_named_by_their_line(tmp_path: Path) -> None:
    header = HEADER.strip() + ",label\n"
    message = refusal(csv_file(tmp_path, "a.jpg,dog,,,train,1\na.jpg,cat,,,train,yes\n", header))
    assert message.endswith(
        "line 3: label is 'yes'; allowed are 1 (shown), 0 (verified not to be shown) and an empty cell (not known)"
    )
    body = "a.jpg,dog,,,train,0\nb.jpg,dog,,,train,1\na.jpg,dog,,,test,1\n"
    assert refusal(csv_file(tmp_path, body, header)).endswith(
        "line 2: label of <dog> is 0, but 1 at line 4 for the same image"
    )


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("1,2,,", "its box lacks x2, y2"),
        ("1,2,1,5", "its box [1, 2, 1, 5] is empty: x1 must be less than x2, and y1 less than y2"),
        ("1,5,2,2", "its box [1, 5, 2, 2] is empty"),
        ("1,2,left,5", "x2 is 'left', which is no number of pixels"),
        ("1,2,inf,5", "x2 is 'inf', which is no number of pixels"),
        ("1,2,1e999,5", "x2 is '1e999', which is no number of pixels"),
    ],
)
def test_a_bad_box_is_named_by_its_line(tmp_path: Path, cells: str, reason: str) -> None:
    body = f"a.jpg,dog,,,train,0,0,1,1\na.jpg,cat,,,train,{cells}\n"
    message = refusal(csv_file(tmp_path, body, HEADER.strip() + ",x1,y1,x2,y2\n"))
    assert f"line 3: {reason}" in message


def test_half_of_the_columns_of_a_box(tmp_path: Path) -> None:
    message = refusal(csv_file(tmp_path, "a.jpg,dog,,,train,0,0\n", HEADER.strip() + ",x1,y2\n"))
    assert message.endswith("has the column x1, y2 but not y1, x2; a box is x1, y1, x2, y2")


def test_a_written_table_is_complete(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    columns = [{**record, "task": f"t{record['subject']}"} for record in RECORDS]
    path = write_jsonl(tmp_path / "photos" / "a.jsonl", columns)
    read = read_table(path, task_column="task")
    write_table(tmp_path / "elsewhere.csv", read, "task")
    with pytest.raises(UserError, match="is absolute"):
        read_table(tmp_path / "elsewhere.csv")
    again = read_table(tmp_path / "elsewhere.csv", task_column="task", absolute=True)
    assert (again.facts, again.groups, again.paths) == (read.facts, read.groups, read.paths)
    assert again.rows.tolist() == read.rows.tolist()
    assert again.splits.tolist() == read.splits.tolist()
    assert read_table(path).groups is None
    assert "t" not in table_text(read_table(path)).splitlines()[0].split(",")
