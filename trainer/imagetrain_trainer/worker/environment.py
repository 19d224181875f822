"""What a worker is told through its environment, read once."""

import dataclasses
import json
import pathlib
import secrets
from collections.abc import Mapping

from imagetrain_api import names, schema, worker_config
from imagetrain_trainer import errors
from imagetrain_trainer.rendezvous import messages

# Between the supervisor and its training process alone.
ENV_PROGRESS_BLOCK = "IMAGETRAIN_PROGRESS_BLOCK"
ENV_OUTCOME = "IMAGETRAIN_OUTCOME"

_MOST = 10**15  # steps and generations: as exact as float64, in which ranks exchange them


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnvironment:
    """The environment of one worker, parsed.

    Attributes:
        config: the worker config document.
        rank: place among the members; 0 is the chief.
        work_dir: scratch folder of this worker; it exists.
        termination_path: file that receives the outcome document, if anyone reads it.
        cpu_threads: threads for TensorFlow's operators; None: one per core.
        log_format: `text` or `json`.
        generation: number of this start among those of the group's supervisors; it grows.
        resume_step: checkpoint that every rank has a copy of; None: the newest in object storage.
        skip_steps: steps, from 1, that the group leaves out.
        careful_steps: first and last of the steps to run one by one; or nothing.
        incarnation: random, of the supervisor; one that was replaced takes the run's checkpoints over no more.
        members: workers of this generation in the order of their ranks; by default one an endpoint.
    """

    config: worker_config.WorkerConfig
    rank: int
    work_dir: pathlib.Path
    termination_path: pathlib.Path | None
    cpu_threads: int | None
    log_format: str
    generation: int = 1
    resume_step: int | None = None
    skip_steps: tuple[int, ...] = ()
    careful_steps: tuple[int, ...] = ()
    incarnation: str = ""
    members: tuple[messages.Member, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            object.__setattr__(self, "members", _build_members(self.config.endpoints))

    @property
    def endpoint(self) -> worker_config.WorkerEndpoint:
        """This worker's own endpoint, for its supervisor, whose rank is that of the full group."""
        return self.config.endpoints[self.rank]


def read_environment(variables: Mapping[str, str]) -> WorkerEnvironment:
    """Parse a worker's environment variables and load its config document.

    Raises:
        ConfigError: a variable is missing or malformed, or the document breaks a rule.
    """
    config = _load_config(pathlib.Path(_required(variables, names.ENV_CONFIG)))
    work_dir = pathlib.Path(_required(variables, names.ENV_WORK_DIR))
    work_dir.mkdir(parents=True, exist_ok=True)
    termination = variables.get(names.ENV_TERMINATION_MESSAGE)
    threads = variables.get(names.ENV_CPU_THREADS)
    log_format = variables.get(names.ENV_LOG_FORMAT, "text")
    if log_format not in ("text", "json"):
        raise errors.ConfigError(f"{names.ENV_LOG_FORMAT} must be text or json, got {log_format!r}.")
    members = _read_members(variables) or _build_members(config.endpoints)
    return WorkerEnvironment(
        config=config,
        rank=_integer(variables, names.ENV_RANK, 0, len(members) - 1),
        work_dir=work_dir,
        termination_path=pathlib.Path(termination) if termination else None,
        cpu_threads=_integer(variables, names.ENV_CPU_THREADS, 1, 4096) if threads else None,
        log_format=log_format,
        generation=_integer(variables, names.ENV_GENERATION, 1, _MOST) if names.ENV_GENERATION in variables else 1,
        resume_step=_integer(variables, names.ENV_RESUME_STEP, 0, _MOST)
        if names.ENV_RESUME_STEP in variables
        else None,
        skip_steps=_integers(variables, names.ENV_SKIP_STEPS),
        careful_steps=_integers(variables, names.ENV_CAREFUL_STEPS),
        incarnation=variables.get(names.ENV_INCARNATION) or secrets.token_hex(8),
        members=members,
    )


def encode_members(members: tuple[messages.Member, ...]) -> str:
    """Return the value of names.ENV_MEMBERS."""
    return json.dumps([schema.encode(member) for member in members])


def _read_members(variables: Mapping[str, str]) -> tuple[messages.Member, ...]:
    text = variables.get(names.ENV_MEMBERS)
    if not text:
        return ()
    try:
        return tuple(schema.decode(messages.Member, document) for document in json.loads(text))
    except (TypeError, ValueError) as error:
        raise errors.ConfigError(f"{names.ENV_MEMBERS} must be a list of members, got {text[:40]!r}.") from error


def _build_members(endpoints: tuple[worker_config.WorkerEndpoint, ...]) -> tuple[messages.Member, ...]:
    return tuple(
        messages.Member(worker=rank, host=endpoint.host, collective_port=endpoint.collective_port)
        for rank, endpoint in enumerate(endpoints)
    )


def _required(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise errors.ConfigError(f"{name} must be set; `imagetrain run` and the operator set it.")
    return variables[name]


def _integer(variables: Mapping[str, str], name: str, minimum: int, maximum: int) -> int:
    text = _required(variables, name)
    if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
        raise errors.ConfigError(f"{name} must be an integer from {minimum} to {maximum}, got {text!r}.")
    return int(text)


def _integers(variables: Mapping[str, str], name: str) -> tuple[int, ...]:
    text = variables.get(name, "")
    return tuple(_integer({name: part}, name, 1, _MOST) for part in text.split(",")) if text else ()


def _load_config(path: pathlib.Path) -> worker_config.WorkerConfig:
    try:
        return worker_config.load_worker_config(path.read_text())
    except OSError as error:
        raise errors.ConfigError(
            f"{names.ENV_CONFIG} must name a readable file, got {path}: {error.strerror}."
        ) from error
    except schema.ValidationError as error:
        raise errors.ConfigError(f"{path} is no valid worker config: {error}") from error
