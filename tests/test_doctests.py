"""The examples in the documentation are true."""

import doctest
import importlib

import pytest

MODULES = (
    "x0",
    "errors",
    "digits.captions",
    "gaussians",
    "weak.base",
    "weak.layers",
    "weak.skip",
    "weak.spec",
    "weak.per_step",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    results = doctest.testmod(importlib.import_module(f"stg_lab.{name}"))
    assert results.failed == 0


def test_there_are_examples():
    tried = {name: doctest.testmod(importlib.import_module(f"stg_lab.{name}")).attempted for name in MODULES}
    assert all(tried.values())
