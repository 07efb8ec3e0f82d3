"""Column encoders: the JSON values of one attribute of many rows, made from the driver's values.

Decoding an instant or an id to a Python value, to format it again, takes ten times as long.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any
from uuid import UUID

from app.api.graphql.fields.source import JsonValues, Rows
from app.domain.instants import format_instant
from app.storage.nodes import TreeNode
from app.storage.sql.column_types import UNSET
from app.storage.sql.rows import RawForm, Row

ColumnEncoder = Callable[[Rows], JsonValues]

ROW_CLASS_CACHE_SIZE = 512
"""Row classes per attribute whose encoder is cached."""


class Encoders(dict[type, ColumnEncoder | None]):
    """The encoders of one attribute by row class; None where a class has none."""

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute

    def __missing__(self, row_class: type) -> ColumnEncoder | None:
        if len(self) == ROW_CLASS_CACHE_SIZE:
            self.clear()
        encoder = self[row_class] = _encoder(row_class, self._attribute)
        return encoder


encoders_of = lru_cache(maxsize=256)(Encoders)
"""Return an attribute's encoders, shared by all plans. A dict's lookup saves a call's 80 ns per
column."""


def _encoder(row_class: type, attribute: str) -> ColumnEncoder | None:
    if row_class is TreeNode and attribute == "id":
        return _encode_node_ids
    if not issubclass(row_class, Row) or attribute not in row_class.raw_columns:
        return None
    column = row_class.raw_columns[attribute]
    encode: Callable[[Iterable[Any]], JsonValues]
    match column.form:
        case RawForm.PLAIN:
            encode = list
        case RawForm.INSTANT_TEXT:
            encode = _encode_instant_texts
        case RawForm.INSTANT:
            encode = _encode_instants
        case RawForm.UUID_TEXT:
            encode = _encode_uuid_texts
        case RawForm.UUID:
            encode = _encode_uuids
        case RawForm.ENUM:
            encode = _enum_encoder(column.names)
        case RawForm.UNSET_LAST:
            encode = _encode_unset_last
        case RawForm.OTHER:
            decode = getattr(row_class, attribute).fget
            return lambda rows: [decode(row) for row in rows]
    value = itemgetter(column.position)
    return lambda rows: encode(map(value, rows))


def _encode_node_ids(nodes: Sequence[TreeNode]) -> list[str]:
    ids = []
    last, prefix = None, ""
    for node, hierarchy in nodes:
        if hierarchy is not last:
            # A node's id is its hierarchy's, with the node's number as the last 32 bits.
            last, prefix = hierarchy, str(hierarchy.id)[:-8]
        ids.append(f"{prefix}{node.node_no:08x}")
    return ids


def _enum_encoder(names: Mapping[str | None, str | None]) -> Callable[[Iterable[Any]], JsonValues]:
    return lambda values: [names[value] for value in values]


def _encode_instant_texts(texts: Iterable[str | None]) -> JsonValues:
    return [None if text is None else f"{text[:10]}T{text[11:23]}Z" for text in texts]


def _encode_instants(instants: Iterable[datetime | None]) -> JsonValues:
    return [None if instant is None else format_instant(instant) for instant in instants]


def _encode_uuid_texts(ids: Iterable[str | None]) -> JsonValues:
    return [id and f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}" for id in ids]


def _encode_uuids(ids: Iterable[UUID | None]) -> JsonValues:
    return [None if id is None else str(id) for id in ids]


def _encode_unset_last(numbers: Iterable[int]) -> JsonValues:
    return [None if number == UNSET else number for number in numbers]
