"""Trusted documents: the operations an operator allows, by the SHA-256 of their text."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import orjson


class UnusableDocuments(Exception):
    """The configured trusted documents cannot be read or are invalid."""


def trusted_documents(path: Path) -> Mapping[str, str]:
    """Read documents, by their SHA-256.

    `path` is a folder, of which all *.graphql files are read, or a JSON object of texts by hash as
    code generators write it. Raises UnusableDocuments.
    """
    try:
        documents = dict(_read_folder(path) if path.is_dir() else _read_json(path))
    except OSError as error:
        raise UnusableDocuments(f"{error.filename} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UnusableDocuments(f"{path} has a document that is not UTF-8.") from None
    if not documents:
        raise UnusableDocuments(f"{path} has no documents.")
    return documents


def _read_folder(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*.graphql")):
        text = file.read_text("utf-8")
        yield hash_of(text), text


def _read_json(file: Path) -> Iterator[tuple[str, str]]:
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
    """Return the SHA-256 of a text, in hexadecimal."""
    return sha256(text.encode()).hexdigest()
