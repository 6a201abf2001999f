"""Methods that train a teacher so that students learn better from the teacher: one paper, one file."""

from tskd_tune.teaching import plain, sftn, soteacher  # noqa: F401 (each import registers its method)
from tskd_tune.teaching.base import TEACHER_METHODS, Need, Setting, TeacherMethod, method_needs

__all__ = ["TEACHER_METHODS", "Need", "Setting", "TeacherMethod", "method_needs"]
