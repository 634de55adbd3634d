"""The keys of `[questions]` for source "datasets": which set, which splits and rows, and what each column is."""

import re
from typing import Any

from pydantic import Field, PositiveInt, model_validator

from judges import JudgeSpecError, find_judge
from loop.config.known_datasets import KNOWN, HubSet
from loop.config.row_filter import FilterError, parse_filter
from loop.config.table import ConfigTable

SOURCE = "datasets"
FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
"""Suffix of a file -> the format in which `datasets` reads it."""

HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
ROLES = ("train", "gate", "test")
PARTS = ("question", "answer", "answer_index", "choices", "images", "id", "kind", "group")
TEMPLATES = {"question", "answer", "choices", "kind", "group"}
"""Parts that may be put together from several columns."""

Columns = dict[str, str | list[str]]


def is_hub_name(path: str) -> bool:
    """Whether a path could be NAME or OWNER/NAME of a set on the hub; one with a file's suffix never is."""
    return HUB_NAME.fullmatch(path) is not None and not path.endswith(tuple(FORMATS))


class DatasetKeys(ConfigTable):
    """Keys that only source "datasets" takes; `dataset` fills in those that are left out."""

    dataset: str | None = None
    name: str | None = None
    splits: dict[str, str] = {}
    columns: Columns = {}
    choices_judge: str | None = None
    answer_after: str | None = Field(None, min_length=1)
    filter: list[str] = []
    limit: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        """The keys of a published set below those that are given; `train` where no split is named."""
        if not isinstance(values, dict) or values.get("source") != SOURCE:
            return values
        if isinstance(name := values.get("dataset"), str):
            values = {**_published(name, values).keys(), **values}
        return {**values, "splits": values.get("splits") or {"train": "train"}}

    @model_validator(mode="after")
    def _fits_the_source(self) -> "DatasetKeys":
        source = getattr(self, "source", None)
        if source != SOURCE:
            given = (key for key in DatasetKeys.model_fields if getattr(self, key) not in (None, {}, []))
            if key := next(given, None):
                raise ValueError(f"{key} is for source = 'datasets', not for {source!r}")
            return self
        for role, split in self.splits.items():
            if role not in ROLES:
                raise ValueError(f"splits: {role!r} is no split of a run; known: {', '.join(ROLES)}")
            if list(self.splits.values()).count(split) > 1:
                raise ValueError(f"splits: {split!r} is named twice; a question is in one split only")
        if "train" not in self.splits:
            raise ValueError('splits must name what is trained on, for example { train = "train" }')
        _check_columns(self.columns)
        for line in self.filter:
            try:
                parse_filter(line)
            except FilterError as error:
                raise ValueError(f"filter: {error}") from error
        if self.choices_judge is not None:
            try:
                find_judge(self.choices_judge)
            except JudgeSpecError as error:
                raise ValueError(f"choices_judge: {error}") from error
        return self


def _published(name: str, given: dict[str, Any]) -> HubSet:
    if name not in KNOWN:
        raise ValueError(f"dataset = {name!r} is unknown; known: {', '.join(sorted(KNOWN))}")
    known = KNOWN[name]
    if known.training is not None:
        return known.training
    if not given.get("splits"):
        split = known.benchmark.splits["test"]
        raise ValueError(
            f"dataset = {name!r} is a benchmark with no split to train on; to train on it all the same, write"
            f' splits = {{ train = "{split}" }}'
        )
    return known.benchmark


def _check_columns(columns: Columns) -> None:
    if unknown := sorted(columns.keys() - set(PARTS)):
        raise ValueError(f"columns: {unknown[0]!r} is no part of a question; known: {', '.join(PARTS)}")
    if "question" not in columns:
        raise ValueError('columns must say where the question stands, for example { question = "question" }')
    if ("answer" in columns) == ("answer_index" in columns):
        raise ValueError("columns must have 'answer' or 'answer_index' (the number of a choice, from 0), and not both")
    if "answer_index" in columns and "choices" not in columns:
        raise ValueError("columns: 'answer_index' counts the choices; name their column as 'choices'")
    for part, value in columns.items():
        lines = [value] if isinstance(value, str) else value
        if not lines or not all(line.strip() for line in lines):
            raise ValueError(f"columns.{part} is empty; name a column, or leave the part out")
        if isinstance(value, str) and "{" in value and part not in TEMPLATES:
            raise ValueError(f"columns.{part} must name a column; only {', '.join(sorted(TEMPLATES))} take templates")
        if isinstance(value, list) and part not in {"question", "choices", "images"}:
            raise ValueError(f"columns.{part} must be one column or template; question, choices and images take lists")
