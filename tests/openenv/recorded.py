"""Reads recordings of conversations with servers of environments: the forms in which they lie in a directory."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """One request over HTTP as it was sent, and the answer as it came."""

    name: str
    method: str
    path: str
    content_type: str | None
    body: bytes | None
    status: int
    headers: dict[str, str]
    answer: bytes


@dataclass(frozen=True)
class Message:
    """One message of a WebSocket and its answer."""

    name: str
    sent: str
    answer: Any


@dataclass(frozen=True)
class Step:
    """A piece of code and what it came to; where the recording was cut short, as much of its text as there is."""

    code: str
    answer: Any | None
    cut: str | None


def exchanges(file: Path) -> Iterator[Exchange]:
    """Of a file with `##### name`, `>>> bytes` and `<<< bytes`, the bytes as Python literals."""
    for block in file.read_text(encoding="utf-8").split("##### ")[1:]:
        name, sent, answer = block.rstrip("\n").split("\n")[:3]
        head, _, body = ast.literal_eval(sent.removeprefix(">>> ")).partition(b"\r\n\r\n")
        request, *lines = head.decode().split("\r\n")
        method, path, _ = request.split(" ")
        headers = _headers(lines)
        head, _, answer_body = ast.literal_eval(answer.removeprefix("<<< ")).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        yield Exchange(
            name.strip(),
            method,
            path,
            headers.get("content-type"),
            body if "content-length" in headers else None,
            int(status.split(" ")[1]),
            _headers(lines),
            answer_body,
        )


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(": ") for line in lines)
    return {name.lower(): value for name, _, value in pairs}


def messages(file: Path) -> Iterator[Message]:
    """Of a file with ` [name]`, `  >>> text` and `  <<< text`, the texts as Python literals."""
    found = re.findall(r"^ \[(.*)\]\n  >>> (.*)\n  <<< (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    for name, sent, answer in found:
        yield Message(name, ast.literal_eval(sent), json.loads(ast.literal_eval(answer)))


def steps(file: Path) -> tuple[Any, list[Step], dict[str, Any]]:
    """Of a file with `"code" -> answer`: the answer to the reset before, the steps, and the lines after by their label.

    Code is shown short there; where the answer repeats it whole, the answer's is taken. Long answers end in `[length]`.
    """
    first, *lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    found: list[Step] = []
    after: dict[str, Any] = {}
    for line in lines:
        shown = re.match(r'("(?:[^"\\]|\\.)*") -> (?:200 )?(.*)$', line)
        if shown is None:
            label, brace, answer = line.partition("{")
            after[label.strip(" :") or f"line {len(after) + 1}"] = _answer(brace + answer)
            continue
        code, text = json.loads(shown[1]), shown[2].rstrip()
        answer = _answer(text)
        whole = re.search(r'"last_code":("(?:[^"\\]|\\.)*")', text)
        found.append(
            Step(json.loads(whole[1]) if whole else code, answer, None if answer else re.sub(r" ?\[\d+\]$", "", text))
        )
    return _answer(first[first.index("{") :]), found, after


def _answer(text: str) -> Any | None:
    """The JSON, or nothing where it was cut."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
