"""What the tests of commands share."""

import pytest
from command_line import Prefork


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """`command_line.run`, without waiting for imports at every call."""
    prefork = Prefork(tmp_path_factory.mktemp("printed"))
    yield prefork
    prefork.close()
