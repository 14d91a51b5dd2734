# SPDX-License-Identifier: Apache-2.0
"""The table in README.md names tests that exist."""
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))


def test_readme_names_tests_that_exist():
    with open(os.path.join(HERE, "README.md")) as f:
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", f.read())
    assert len(named) > 60
    for file, test in named:
        with open(os.path.join(HERE, file)) as f:
            assert re.search(rf"^def {test}\(", f.read(), re.M), f"{file} has no {test}"
