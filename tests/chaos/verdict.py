"""Compares a sweep that went through a storm with the calm one."""

from __future__ import annotations

from chaos.storm import EPOCHS, RUNS, Told, ended, histories, left_over, rows, same, students


def differences(calm: Told, told: Told) -> list[str]:
    """Return what differs from the calm run, or should not be there, in sentences; an empty list if nothing does."""
    wrong = _of_rows(calm, told)
    first, second = students(calm.folder), students(told.folder)
    if first.keys() != second.keys():
        wrong.append(f"{len(second)} students, not {len(first)}")
    wrong += [
        f"the student of {name} differs" for name in first.keys() & second.keys() if not same(first[name], second[name])
    ]
    before, after = histories(calm.folder), histories(told.folder)
    if len(before) != EPOCHS * RUNS or before != after:
        wrong.append(f"{len(after)} epochs in histories, {sum(after.get(key) != before[key] for key in before)} differ")
    wrong += [f"{name} was left over" for name in left_over(told.folder)]
    wrong += ["a command printed a traceback" for text in told.outputs if "Traceback" in text]
    return wrong


def _of_rows(calm: Told, told: Told) -> list[str]:
    first, second = rows(calm.folder), rows(told.folder)
    wrong = [] if len(first) == len(second) == RUNS else [f"{len(second)} rows, not {len(first)}"]
    for key in first.keys() & second.keys():
        names = [name for name in first[key] | second[key] if first[key].get(name) != second[key].get(name)]
        wrong += [f"row {key}: {name} differs" for name in names]
    return wrong + [f"{key} has {count} rows" for key, count in ended(told.folder).items() if count != 1]
