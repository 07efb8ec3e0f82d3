"""Trusted documents: the operations that an operator knows, each by the SHA-256 of its text."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import orjson


class UnusableDocuments(Exception):
    """What was named as trusted documents can't be used."""


def trusted_documents(place: Path) -> Mapping[str, str]:
    """The texts by their SHA-256: of a folder, all its files that end in .graphql; of a JSON file
    such as code generators write, the texts by hash. Raises UnusableDocuments."""
    try:
        documents = dict(_of_folder(place) if place.is_dir() else _of_file(place))
    except OSError as error:
        raise UnusableDocuments(f"{error.filename} can not be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UnusableDocuments(f"{place} has a document that is not UTF-8.") from None
    if not documents:
        raise UnusableDocuments(f"{place} has no documents.")
    return documents


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*.graphql")):
        text = file.read_text("utf-8")
        yield hash_of(text), text


def _of_file(file: Path) -> Iterator[tuple[str, str]]:
    try:
        documents = orjson.loads(file.read_bytes())
        entries = list(documents.items())
    except (ValueError, AttributeError):
        raise UnusableDocuments(f"{file} is not a JSON object of texts by hash.") from None
    for hash, text in entries:
        if not isinstance(text, str) or hash.removeprefix("sha256:") != hash_of(text):
            raise UnusableDocuments(f"{file}: {hash} is not the SHA-256 of its text.")
        yield hash_of(text), text


def hash_of(text: str) -> str:
    """The SHA-256 of a document, in hexadecimal."""
    return sha256(text.encode()).hexdigest()
