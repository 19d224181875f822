"""docs/exit-codes.md: what a worker's exit status says, from `imagetrain_api.exit_codes`."""

from imagetrain_api import exit_codes

_HEAD = """\
# Exit codes of a worker

<!-- Written by `make manifests` from api/imagetrain_api/exit_codes.py; a change belongs there. -->

The exit status of a worker's process says what happened. The operator and `imagetrain run` start the group again, from
its newest checkpoint, where another attempt can help and `spec.recovery.maxRestarts` allows it; otherwise the job fails
with the reason. Any other status (a signal, a crash) counts as InternalError.

| Status | Reason | Meaning | Another attempt? | What to do |
|---|---|---|---|---|
"""


def build_table() -> str:
    """Return the document."""
    return _HEAD + "".join(
        f"| {int(code)} | {outcome.reason} | {outcome.meaning} | {'yes' if outcome.is_retryable else 'no'} | "
        f"{outcome.advice} |\n"
        for code, outcome in exit_codes.OUTCOMES.items()
    )
