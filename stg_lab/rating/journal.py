"""Answers on disk: a line of JSON for each, written at once. Nothing in it says who the rater is or where it was written."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stg_lab.errors import RatingError
from stg_lab.rating.pairs import ANSWERS, Pair
from stg_lab.rating.sources import Key

MARK = {"stg_lab": "ratings", "version": 1}  # how the first line begins


@dataclass(frozen=True)
class Head:
    """The first line of a file.

    Attributes:
        rater: a number or letters that tell raters apart.
        seed: of the order of pairs and of their sides.
        aspects: what is asked.
        settings: the fingerprint of each setting's videos, by its name.
    """

    rater: str
    seed: int
    aspects: tuple[str, ...]
    settings: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What was answered of one pair and aspect: "left", "right" or "equal"."""

    pair: Pair
    aspect: str
    answer: str

    @property
    def question(self) -> tuple[Key, tuple[str, str], str]:
        """What was asked, whatever the sides."""
        return self.pair.key, self.pair.settings, self.aspect


class Journal:
    """A file of answers that is written to. A last line that was cut off is taken away: it was never given.

    Attributes:
        path: the file.
        head: its first line.
        answers: those that hold, oldest first.
    """

    def __init__(self, path: Path, head: Head) -> None:
        """Open a file, or begin it with `head`.

        Raises:
            RatingError: it is no file of answers, or cannot be written.
        """
        self.path = path
        self._size = 0
        try:
            there = _text(path) if path.exists() else b""
            if _begun(path, there):
                self.head, self.answers, self._size = _parsed(path, there)
                if len(there) > self._size:
                    os.truncate(path, self._size)
                return
            self.head, self.answers = head, []
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        except OSError as error:
            raise _unwritable(path, error) from None
        self._write({**MARK, **asdict(head)})

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            RatingError: it cannot be written, or another session writes to the file.
        """
        pair = answer.pair
        about = {"left": pair.left, "right": pair.right, "aspect": answer.aspect, "answer": answer.answer}
        self._write({**pair.key._asdict(), **about})
        self.answers.append(answer)

    def undo(self) -> Answer:
        """Take back the last answer. Its line stays, and one more says that it no longer holds.

        Raises:
            RatingError: there is none, or it cannot be written.
        """
        if not self.answers:
            raise RatingError("there is no answer to undo.")
        self._write({"undo": len(self.answers) - 1})
        return self.answers.pop()

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        try:
            with self.path.open("r+b") as file:
                if file.seek(0, os.SEEK_END) != self._size:
                    raise RatingError(
                        f"{self.path} has changed: another session writes to it. Go on there, or open it here again."
                    )
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, self._size)  # half a line on a full disk would spoil the next one
            raise _unwritable(self.path, error) from None
        self._size += len(data)


def read(path: Path) -> tuple[Head, list[Answer]]:
    """The first line of a file and the answers that hold. A last line that was cut off does not count.

    Raises:
        RatingError: no such file, or it is no file of answers.
    """
    if not path.is_file():
        raise RatingError(f"no file of ratings at {path}.")
    text = _text(path)
    if not _begun(path, text):
        raise RatingError(f"{path} holds no ratings yet.")
    return _parsed(path, text)[:2]


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RatingError(f"{path} cannot be read: {error.strerror}.") from None


def _begun(path: Path, text: bytes) -> bool:
    """Whether there is a whole first line; False also where it was cut off.

    Raises:
        RatingError: it is no file of answers.
    """
    mark = json.dumps(MARK)[:-1].encode()
    if text[: len(mark)] != mark[: len(text)]:
        raise RatingError(f"{path} is no file of ratings. Type another name: lab.rate(..., out='out/ratings.jsonl').")
    return b"\n" in text


def _parsed(path: Path, text: bytes) -> tuple[Head, list[Answer], int]:
    """Head, answers and the bytes of all whole lines."""
    lines = text.split(b"\n")[:-1]
    answers: list[Answer] = []
    at = 0
    try:
        first = json.loads(lines[0])
        head = Head(str(first["rater"]), int(first["seed"]), tuple(first["aspects"]), dict(first["settings"]))
        for at in range(1, len(lines)):
            line = json.loads(lines[at])
            if "undo" in line:
                answers.pop()
            else:
                answers.append(_answer(line, head))
    except (ValueError, KeyError, TypeError, IndexError):
        raise RatingError(
            f"line {at + 1} of {path} is damaged. Mend or remove it; the lines before it are whole."
        ) from None
    return head, answers, text.rfind(b"\n") + 1


def _answer(line: dict[str, Any], head: Head) -> Answer:
    key = Key(str(line["caption"]), line["seed"], int(line["turn"]))
    pair = Pair(key, line["left"], line["right"])
    if (
        not {pair.left, pair.right} <= head.settings.keys()
        or line["aspect"] not in head.aspects
        or line["answer"] not in ANSWERS
    ):
        raise ValueError(line)
    return Answer(pair, line["aspect"], line["answer"])


def _unwritable(path: Path, error: OSError) -> RatingError:
    return RatingError(f"{path} cannot be written: {error.strerror or error}.")
