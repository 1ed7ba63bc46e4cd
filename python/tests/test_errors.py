from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hothouse
from hothouse import HothouseError, RequestError, ServerError
from hothouse.errors import class_of, problem_of

DESCRIPTION = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text("utf-8"))


def subclasses(base: type[HothouseError]) -> list[type[HothouseError]]:
    found = []
    for derived in base.__subclasses__():
        found += [derived, *subclasses(derived)]
    return found


def test_there_is_one_class_for_each_code_of_the_description() -> None:
    wanted = set(DESCRIPTION["components"]["schemas"]["ErrorCode"]["enum"])
    with_code = [error for error in subclasses(HothouseError) if error.code is not None]
    assert sorted(error.code for error in with_code if error.code) == sorted(wanted)
    for error in with_code:
        assert error.code is not None
        assert error.__name__ == "".join(word.capitalize() for word in error.code.split("_"))
        assert getattr(hothouse, error.__name__) is error
        assert class_of(error.code, 400) is error


def body(**fields: Any) -> bytes:
    return json.dumps({"type": "t", "title": "t", "status": 404, "detail": "gone", **fields}).encode()


def test_a_problem_document_becomes_its_class_with_all_it_says() -> None:
    error = problem_of(404, body(code="sandbox_not_found", field="sandbox_id"))
    assert type(error) is hothouse.SandboxNotFound
    assert (error.code, error.status, error.detail, error.field) == ("sandbox_not_found", 404, "gone", "sandbox_id")
    assert error.problem is not None
    assert error.problem["title"] == "t"
    assert str(error) == "sandbox_not_found: gone"


@pytest.mark.parametrize(("status", "base"), [(418, RequestError), (599, ServerError), (302, HothouseError)])
def test_a_code_that_is_not_known_becomes_the_base_of_its_status(status: int, base: type[HothouseError]) -> None:
    error = problem_of(status, body(code="new_one"))
    assert type(error) is base
    assert (error.code, error.status) == ("new_one", status)
    # One instance's code is not another one's.
    assert base.code is None


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'"x"', b'{"code": 5}', b"\xff\xfe"])
def test_what_is_no_problem_document_is_shown_as_it_is(content: bytes) -> None:
    error = problem_of(503, content)
    assert type(error) is ServerError
    assert (error.code, error.status, error.problem) == (None, 503, None)
    assert "503" in str(error)


def test_an_error_that_a_user_derives_is_never_made_here() -> None:
    class Mine(hothouse.SandboxDead):
        code = "sandbox_dead"

    assert class_of("sandbox_dead", 410) is hothouse.SandboxDead
    assert issubclass(Mine, hothouse.SandboxDead)
