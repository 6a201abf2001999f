"""How a teacher is trained with its students in mind: one paper, one file."""

from tskd_tune.teaching import plain, sftn, soteacher  # noqa: F401 (each import registers its method)
from tskd_tune.teaching.base import TEACHER_METHODS, Need, Setting, TeacherMethod, method_needs

__all__ = ["TEACHER_METHODS", "Need", "Setting", "TeacherMethod", "method_needs"]
