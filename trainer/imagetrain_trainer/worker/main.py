"""Entry point `imagetrain-worker`: puts a supervisor together, runs it, and tells how the worker ended."""

import contextlib
import logging
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping

from imagetrain_api import exit_codes, names, progress
from imagetrain_trainer import errors
from imagetrain_trainer.rendezvous import member, messages, server, settings
from imagetrain_trainer.worker import (
    environment,
    forking,
    guilt,
    lifeline,
    log_forwarding,
    logs,
    metrics,
    outcomes,
    status_server,
    supervisor,
    training_process,
)

logger = logging.getLogger(__name__)

_LINGER_SECONDS = 1.0  # for the other workers to hear from the coordinator that all is over
_END_SECONDS = 1.8  # whatever still holds this process then is left behind


def main() -> None:
    """Run one worker; the exit status is an `imagetrain_api.exit_codes.ExitCode`."""
    variables = dict(os.environ)
    try:
        worker = environment.read_environment(variables)
    except errors.TrainerError as error:
        _tell(variables.get(names.ENV_TERMINATION_MESSAGE), outcomes.build_outcome(error.exit_code, str(error)))
        sys.stderr.write(f"imagetrain-worker: {error}\n")
        sys.exit(error.exit_code)
    logs.configure(worker.log_format, worker.rank)
    lifeline.become_subreaper()
    early = _note_signals()
    try:
        with _built(worker, variables) as made:
            if early:
                made.take_signal(early[0], None)
            outcome = made.run()
            _finish(worker, outcome)
    except Exception as error:  # whatever it is, somebody waits for an outcome
        logger.exception("the supervisor failed")
        outcome = outcomes.build_outcome(exit_codes.ExitCode.INTERNAL, f"The worker's supervisor failed: {error}")
        _finish(worker, outcome)
    sys.exit(outcome.exit_code)


def _note_signals() -> list[int]:
    """Return a list that is given each request to stop until the supervisor takes them: process 1 would lose them."""
    noted: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: noted.append(number))
    return noted


def _finish(worker: environment.WorkerEnvironment, outcome: progress.WorkerOutcome) -> None:
    """Tell how this worker ended, and see to it that it does."""
    _tell(worker.termination_path, outcome)
    level = logging.INFO if outcome.exit_code == exit_codes.ExitCode.DONE else logging.ERROR
    logger.log(level, "%s: %s", outcome.reason, outcome.message)
    timer = threading.Timer(_END_SECONDS, os._exit, (outcome.exit_code,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _built(worker: environment.WorkerEnvironment, variables: Mapping[str, str]) -> Iterator[supervisor.Supervisor]:
    """Yield the supervisor with all that it needs, and close that afterwards.

    Raises:
        OSError: a port is taken.
    """
    endpoint, metadata, run_id = worker.endpoint, worker.config.job.metadata, worker.config.run_id
    limits = settings.build_settings(worker.config)
    with contextlib.ExitStack() as stack:
        forwarder = log_forwarding.LogForwarder()
        stack.callback(forwarder.close)
        starter = _build_starter(variables, forwarder.descriptor)
        stack.callback(starter.close)
        group = None
        if worker.rank == 0:
            group = server.Server(_listening_address(worker), run_id, limits, guilt.judge)
            stack.callback(group.close, _LINGER_SECONDS)
        link = member.Member(_coordinator_address(worker), run_id, _first_report(worker), limits)
        stack.callback(link.close)
        made = supervisor.Supervisor(worker, link, starter, variables, group)
        logs.configure(worker.log_format, worker.rank, made.place)
        registry = metrics.build_registry(metadata.namespace, metadata.name, made.read_progress)
        status = status_server.StatusServer(endpoint.host, endpoint.status_port, made.read_progress, registry)
        stack.callback(status.close)
        yield made


def _build_starter(variables: Mapping[str, str], log: int) -> training_process.Starter:
    if variables.get(names.ENV_FORK_SERVER) == "0":
        return training_process.ColdStart(log, training_process.MODULE)
    return forking.ForkServer(variables, log, training_process.MODULE)


def _listening_address(worker: environment.WorkerEnvironment) -> tuple[str, int]:
    endpoint = worker.endpoint
    is_alone = len(worker.config.endpoints) == 1
    return "127.0.0.1" if is_alone else status_server.bind_address(endpoint.host), endpoint.rendezvous_port


def _coordinator_address(worker: environment.WorkerEnvironment) -> tuple[str, int]:
    """Return where the coordinator is; for rank 0 in this process, whatever the cluster knows of names yet."""
    if worker.rank == 0:
        host, port = _listening_address(worker)
        return host or "127.0.0.1", port
    chief = worker.config.endpoints[0]
    return chief.host, chief.rendezvous_port


def _first_report(worker: environment.WorkerEnvironment) -> messages.MemberReport:
    endpoint = worker.endpoint
    return messages.MemberReport(
        rank=worker.rank,
        incarnation=worker.incarnation,
        host=endpoint.host,
        collective_port=endpoint.collective_port,
        local_steps=supervisor.find_local_steps(worker),
    )


def _tell(path: str | pathlib.Path | None, outcome: progress.WorkerOutcome) -> None:
    if path:
        try:
            outcomes.write_outcome(pathlib.Path(path), outcome)
        except OSError as error:
            sys.stderr.write(f"imagetrain-worker: cannot write {path}: {error.strerror}\n")


if __name__ == "__main__":
    main()
