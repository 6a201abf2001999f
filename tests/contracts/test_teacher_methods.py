"""What every registered teacher method promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

import pytest

from tskd_tune.teaching import TEACHER_METHODS
from tskd_tune.testing import TeacherMethodContract


class TestEveryTeacherMethod(TeacherMethodContract):
    @pytest.fixture(params=TEACHER_METHODS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)
