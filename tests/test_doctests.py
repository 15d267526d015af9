"""The examples in the documentation are true."""

import doctest
import importlib

import pytest

MODULES = ("guidance", "x0", "errors", "digits.captions", "weak.skip", "weak.spec")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    results = doctest.testmod(importlib.import_module(f"stg_lab.{name}"))
    assert results.failed == 0


def test_there_are_examples():
    tried = {name: doctest.testmod(importlib.import_module(f"stg_lab.{name}")).attempted for name in MODULES}
    assert sum(tried.values()) >= 7
    assert [name for name, count in tried.items() if count == 0] in ([], ["guidance"])
