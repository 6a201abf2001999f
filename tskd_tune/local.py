"""Trains one experiment on this machine without Ray, and resumes the training: the command `tskd-tune train`.

After each epoch the history line is appended. A checkpoint is written from time to time while the training goes on
(see ``training.checkpoint``), and at the end. An interrupted training continues from its last whole checkpoint, and
ends with the same student.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from tskd_tune.errors import InputError, RunError, UnwritableError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.teacher import obtain, teacher_key, trains_a_teacher
from tskd_tune.paths import StoragePlace, in_shell
from tskd_tune.records.entries.design import Design, write_design
from tskd_tune.records.entries.events import (
    Event,
    Listener,
    keep_leaks,
    read_data,
    row_event,
    teacher_event,
    teaching_event,
)
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.entries.teaching import noted
from tskd_tune.records.kept.kept_examples import keep_examples
from tskd_tune.records.kept.kept_hits import keep_hits
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.breakage import Breakage, breakage, broken_row, of_seed, reason_of
from tskd_tune.records.sessions.session import Session, Trial
from tskd_tune.records.sessions.workplace import TrainingFiles, Workplace
from tskd_tune.records.wandb.rules import refuse
from tskd_tune.records.wandb.server import Place
from tskd_tune.records.wandb.tracking import WandbTracker
from tskd_tune.reports.page.report import write_report
from tskd_tune.single import check, label
from tskd_tune.training.checkpoint import Saver, waited_for
from tskd_tune.training.lockstep import advance
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record
from tskd_tune.training.teachers import TeacherCache, TeacherFile

# The only trial of a run that trains one experiment.
RUN = "0"


def start(
    experiment: Experiment,
    name: str,
    storage: StoragePlace,
    listener: Listener,
    *,
    track: bool = True,
    origin: Origin | None = None,
) -> RunFolder:
    """Train an experiment in a new run's folder, and write the report.

    Args:
        experiment: what to train.
        name: the run's name, new in ``storage``.
        storage: the folder that runs are kept in.
        listener: is called with every `Event`, once it is on disk.
        track: whether to keep a W&B run.
        origin: the file and its question, for the report.

    Raises:
        InputError: the experiment is wrong or the name is in use; nothing was started.
        RunError: something failed, such as a loss that is not finite; the run can be resumed.
    """
    check(experiment)
    refuse(Place(), track=track)
    TeacherCache()  # a folder that cannot be made is refused before there is a run
    RunFolder.free(storage.absolute(), name)  # before the data are read, which may take hours
    read_data([experiment], listener)
    folder = RunFolder.create(
        storage.absolute(), name, "train", experiment.plain(), expected=1, origin=origin, tracked=track
    )
    with folder.alone(lambda text: listener(Event("note", "", reason=text))):
        return _run(experiment, folder, listener, track=track)


def resume(folder: RunFolder, listener: Listener, *, track: bool | None = None) -> RunFolder:
    """Finish an interrupted training, from its last whole checkpoint.

    Args:
        folder: the run.
        listener: is called with every `Event`, once it is on disk.
        track: whether to keep a W&B run; None: as the run began.

    Raises:
        InputError: the run is a sweep, or a file that the run needs is missing.
        RunError: as `start`.
    """
    if folder.state.kind != "train":
        raise InputError(f"{folder.place}: is a sweep, not a single training; continue it with `tskd-tune resume`")
    track = folder.state.tracked if track is None else track
    experiment = Experiment.read(folder.document())
    check(experiment)
    refuse(Place(), track=track)
    with folder.alone(lambda text: listener(Event("note", "", reason=text))):
        read_data([experiment], listener)
        return _run(experiment, folder, listener, track=track)


def _run(experiment: Experiment, folder: RunFolder, listener: Listener, *, track: bool) -> RunFolder:
    listener = noted(folder.store, listener)
    key = teacher_key(experiment) if trains_a_teacher(experiment) else None
    write_design(folder.store, Design(epochs=experiment.training.epochs))
    keep_leaks(folder.store, [experiment])
    folder.begin(_begun(experiment))
    row = _accounted(experiment, key, folder, listener, track)
    Workplace.of(folder.at).upload_wandb("")
    folder.add_row(row)
    listener(row_event(row))
    write_report(folder)
    if row.status == "failed":
        again = f"; when the cause is removed, run: tskd-tune resume {in_shell(folder.place)}" if row.broke else ""
        raise RunError(f"{folder.place}: {row.arm}, seed {row.seed}: {row.reason}{again}")
    return folder


def _begun(experiment: Experiment) -> Begun:
    return Begun(
        run=RUN,
        identity=identity(experiment),
        arm=label(experiment),
        seeds=[experiment.seed],
        epochs=experiment.training.epochs,
        experiment=experiment.plain(),
    )


def _accounted(experiment: Experiment, key: str | None, folder: RunFolder, listener: Listener, track: bool) -> Row:
    """Train, and return the row; any error of the teacher, a component or the machine breaks the training."""
    session: Session | None = None
    try:
        teacher = obtain(experiment, TeacherCache(), lambda record: listener(teaching_event(experiment, key, record)))
        if teacher is not None:
            listener(teacher_event(teacher))
        session = _session(experiment, teacher, folder, track)
        _train(session, folder, listener)
        folder.forget_error(RUN, experiment.seed)
        session.close()  # before the row, which has the warning of the tracker
        return session.row()
    except UnwritableError:
        raise  # a row could not be written either
    except (Exception, SystemExit) as error:
        broke = breakage(error)
        return folder.keep_error(_broken(experiment, session, folder, broke), broke.text)
    finally:
        if session is not None:
            session.close()


def _broken(experiment: Experiment, session: Session | None, folder: RunFolder, broke: Breakage) -> Row:
    if session is not None:
        session.break_off(broke.reason)
        session.close()
        return session.row()
    history, arm = folder.history(RUN), label(experiment)
    return broken_row(experiment.plain(), experiment.seed, history, broke.reason, run=RUN, arm=arm, point={})


def _session(experiment: Experiment, teacher: TeacherFile | None, folder: RunFolder, track: bool) -> Session:
    arm = label(experiment)
    tracker = _tracker(experiment, folder) if track else None
    session = Session(experiment, teacher, Trial(RUN, arm), tracker)
    for saved in _files(folder, session).candidates():
        try:
            session.load_state_dict(saved.load())
            _restore_history(session, folder)
            return session
        except UnwritableError:
            raise
        except Exception as error:  # a damaged file can raise any error
            problem = reason_of(error).partition("; ")[0]
            warnings.warn(f"{problem}; the training goes on from an older checkpoint, or begins anew", stacklevel=2)
            session = Session(experiment, teacher, Trial(RUN, arm), tracker)
    return session


def _restore_history(session: Session, folder: RunFolder) -> None:
    """Append the epochs of a checkpoint that the history lost with the machine's power."""
    known = {line.epoch for line in of_seed(folder.history(RUN), session.experiment.seed)}
    lost = [record.plain() for record in session.trainer.history if record.epoch not in known]
    if lost:
        folder.append_history(RUN, lost)


def _tracker(experiment: Experiment, folder: RunFolder) -> WandbTracker:
    name = identity(experiment) if folder.state.by_identity else None
    arm, seed = label(experiment), experiment.seed
    return WandbTracker(folder.path, sweep=folder.name, run=RUN, seed=seed, arm=arm, name=name)


def _train(session: Session, folder: RunFolder, listener: Listener) -> None:
    seed = session.experiment.seed
    session.begin()
    files = _files(folder, session)
    if folder.path.is_dir():  # otherwise the first checkpoint says that the run's folder is gone
        files.folder.mkdir(parents=True, exist_ok=True)
    with waited_for(files.saver(session.experiment.training.checkpoint.seconds)) as saver:
        with session.observed_by(_Keeper(session, folder, saver, listener)):
            while not session.finished:
                advance([session.trainer])
        if session.failure is None:
            saver.finish(session.state_dict())
            session.write_student(folder.student_path(RUN, seed))
            files.keep_student()
            keep_hits(session, files)
            keep_examples(session, Workplace.of(folder.at), files)
            files.close()


def _files(folder: RunFolder, session: Session) -> TrainingFiles:
    path = folder.checkpoint_path(RUN, session.experiment.seed)
    return Workplace.of(folder.at).files(path.parent.relative_to(folder.path))


@dataclass(frozen=True, eq=False)
class _Keeper(Observer):
    """Keeps each epoch in the run's folder, and then tells the listener.

    The history line is written each time, a checkpoint if it is due. A resume from an older checkpoint trains
    epochs again and appends the same lines, of which each counts once.
    """

    session: Session
    folder: RunFolder
    saver: Saver
    listener: Listener

    def stepped(self, training: Training) -> None:
        """Write a checkpoint within the epoch, if it is due."""
        if self.saver.is_due_within:
            self.saver.save(self.session.state_dict())

    def recorded(self, training: Training, record: Record) -> None:
        """Keep an epoch."""
        self.folder.append_history(RUN, [record.plain()])
        if self.saver.is_due:
            self.saver.save(self.session.state_dict())
        self.listener(_of_student(self.session.experiment, record))


def _of_student(experiment: Experiment, record: Record) -> Event:
    epochs = experiment.training.epochs
    return Event("epoch", label(experiment), RUN, experiment.seed, record.epoch, epochs, metrics=record.plain())
