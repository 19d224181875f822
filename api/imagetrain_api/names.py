"""Every name that two sides must agree on: API group, labels, annotations, environment variables, object keys."""

GROUP = "imagetrain.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ImageTrainingJob"
PLURAL = "imagetrainingjobs"

# Kubernetes, "Object names and IDs" and "Labels and selectors".
OBJECT_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"  # a DNS subdomain (RFC 1123)
LABEL_KEY = rf"({OBJECT_NAME}/)?[A-Za-z0-9]([-_.A-Za-z0-9]{{0,61}}[A-Za-z0-9])?"
LABEL_VALUE = r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?"

# Labels on every child of a job.
LABEL_JOB = f"{GROUP}/job"
LABEL_RUN = f"{GROUP}/run"  # the run_id: it tells the pods of two jobs apart that bore one name
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_RANK = "batch.kubernetes.io/job-completion-index"  # Kubernetes' own, on the pods of an Indexed Job

# The worker config document, on the pod template; the downward API mounts it as a file.
ANNOTATION_WORKER_CONFIG = f"{GROUP}/worker-config"

# Environment of a worker. It is read once, in the worker's main.
ENV_CONFIG = "IMAGETRAIN_CONFIG"  # path of the worker config document
ENV_RANK = "IMAGETRAIN_RANK"  # 0 is the chief
ENV_WORK_DIR = "IMAGETRAIN_WORK_DIR"  # scratch folder of this worker
ENV_TERMINATION_MESSAGE = "IMAGETRAIN_TERMINATION_MESSAGE"  # file that receives the outcome document
ENV_CPU_THREADS = "IMAGETRAIN_CPU_THREADS"  # threads for TensorFlow's operators; unset: one per core
ENV_LOG_FORMAT = "IMAGETRAIN_LOG_FORMAT"  # text or json
ENV_FORK_SERVER = "IMAGETRAIN_FORK_SERVER"  # 0: every generation starts a fresh interpreter

# What the supervisor adds for the training process of one generation.
ENV_GENERATION = "IMAGETRAIN_GENERATION"  # its number, from 1
ENV_RESUME_STEP = "IMAGETRAIN_RESUME_STEP"  # step of the checkpoint to go on from; unset: the newest complete one
ENV_SKIP_STEPS = "IMAGETRAIN_SKIP_STEPS"  # steps to leave out, by commas
ENV_CAREFUL_STEPS = "IMAGETRAIN_CAREFUL_STEPS"  # first and last of the steps to run one by one, by a comma
ENV_INCARNATION = "IMAGETRAIN_INCARNATION"  # random, of the supervisor, as it tells the coordinator
ENV_MEMBERS = "IMAGETRAIN_MEMBERS"  # JSON: the generation's members in the order of their ranks
ENV_STACK_FILE = "IMAGETRAIN_STACK_FILE"  # file that receives the Python stacks when they are asked for

COMMAND = ("imagetrain-worker",)

# Places in a worker's container.
CONFIG_DIR = "/etc/imagetrain"
CONFIG_FILE = "worker.json"
WORK_DIR = "/scratch"
TERMINATION_MESSAGE_PATH = "/dev/termination-log"
CONTAINER = "worker"

# HTTP paths that a worker serves.
PATH_HEALTH = "/healthz"
PATH_METRICS = "/metrics"
PATH_PROGRESS = "/progress"

COLLECTIVE_PORT = 2222  # TensorFlow's customary worker port
STATUS_PORT = 8080
RENDEZVOUS_PORT = 2223  # of rank 0: the supervisors of a group meet there

# Objects under `spec.output.uri`.
RUNS_PREFIX = "runs"
LATEST_KEY = "latest.json"
MANIFEST_KEY = "manifest.json"
DATA_KEY = "data.json"  # of a run: the data set that it is pinned to
CHECKPOINTS_PREFIX = "checkpoints"
EVENTS_PREFIX = "events"
INCIDENTS_PREFIX = "incidents"  # stacks of a group that hung
REPORT_KEY = "report.html"
HISTORY_KEY = "history.json"


def child_job(job: str, attempt: int) -> str:
    """Return the name of the Kubernetes Job that is the given attempt (0, 1, ...) of a job."""
    return f"{job}-{attempt}"


def run_prefix(run_id: str) -> str:
    """Return the key prefix of one run under `spec.output.uri`, without a trailing slash."""
    return f"{RUNS_PREFIX}/{run_id}"
