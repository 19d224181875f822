import pytest

import cluster_objects
from imagetrain_api import exit_codes, status
from imagetrain_operator.plan import causes, failures, parse, pod_ends

BACKOFF = [{"type": "FailureTarget", "status": "True", "message": "Job has reached the specified backoff limit"}]
FAILED_JOB = parse.parse_child_job(cluster_objects.build_child_job(conditions=BACKOFF))
RUNNING_JOB = parse.parse_child_job(cluster_objects.build_child_job())
DELETED = {"metadata": {"deletionTimestamp": "2026-03-01T10:07:00Z", "deletionGracePeriodSeconds": 120}}
DELETED_LATER = {"metadata": {"deletionTimestamp": "2026-03-01T10:07:04Z", "deletionGracePeriodSeconds": 120}}


def _disrupted(reason, message=""):
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


def _outcome(code, message=""):
    reason = exit_codes.find_outcome(code).reason
    return {"exitCode": int(code), "reason": reason, "message": message, "summary": {}}


def _explain(*pods, child=FAILED_JOB, workers=None):
    parsed = [parse.parse_pod(pod) for pod in pods]
    return failures.explain_failure(parsed, child, len(pods) if workers is None else workers)


def _must_explain(*pods, **settings):
    failure = _explain(*pods, **settings)
    assert failure is not None
    assert len(failure.message) <= status.MAX_MESSAGE_CHARACTERS
    return failure


ended = cluster_objects.build_ended_pod
running = cluster_objects.build_running_pod
PEER_LOST = ended(80, rank=0, outcome=_outcome(80, "Rank 1 is gone."), finished_at="2026-03-01T10:05:02Z")


@pytest.mark.parametrize("code", [code for code in exit_codes.ExitCode if code != exit_codes.ExitCode.DONE])
def test_each_exit_code_tells_its_meaning_the_place_and_the_advice(code):
    known = exit_codes.OUTCOMES[code]
    failure = _must_explain(ended(code, outcome=_outcome(code, "Something in s3://models/x broke")))
    advice = "" if code in (83, 102, 105) else f" {known.advice}"  # the storage's own words name the remedy
    assert failure == causes.Failure(
        reason=known.reason,
        message=f"{known.meaning} Worker 0 on node node-1: Something in s3://models/x broke.{advice}",
        rank=0,
        exit_code=code,
        is_permanent=not known.is_retryable,
        is_disruption=code == exit_codes.ExitCode.PREEMPTED,
    )


@pytest.mark.parametrize(
    ("pod", "reason", "traits", "parts"),
    [
        (
            ended(137, reason="OOMKilled"),
            "OOMKilled",
            "",
            ["Worker 0 on node node-1 ran out of memory", "limits.memory"],
        ),
        (ended(110, reason="OOMKilled"), "OOMKilled", "", ["exit status 110"]),  # a child process was killed, cgroup v1
        # Memory ran out in a training process that was replaced in place; the container ended later, for another reason
        (ended(82, reason="OOMKilled", outcome=_outcome(82)), "Preempted", "disruption", []),
        (ended(82, reason="OOMKilled", outcome=_outcome(82), **DELETED), "PodDeleted", "disruption", []),
        (ended(103, reason="OOMKilled", outcome=_outcome(103)), "NonFiniteLoss", "permanent", []),
        (ended(137, reason="OOMKilled", outcome=_outcome(82)), "OOMKilled", "", ["ran out of memory"]),
        (ended(137), "Killed", "", ["was killed from outside (SIGKILL", "kubectl describe node node-1"]),
        (
            ended(137, **DELETED),  # its grace period was over
            "PodDeleted",
            "disruption",
            ["The pod of worker 0 on node node-1 was deleted", "newest checkpoint"],
        ),
        (ended(82, outcome=_outcome(82), **DELETED), "PodDeleted", "disruption", []),
        (ended(143, **DELETED), "PodDeleted", "disruption", []),
        (ended(103, outcome=_outcome(103), **DELETED), "NonFiniteLoss", "permanent", []),
        (running(**DELETED), "PodDeleted", "disruption", []),
        (cluster_objects.build_pod(node="", **DELETED), "PodDeleted", "disruption", ["The pod of worker 0 was"]),
        (
            ended(
                137,
                status_reason="Evicted",
                status_message="The node was low on resource: ephemeral-storage. ",
                conditions=_disrupted("TerminationByKubelet"),
            ),
            "Evicted",
            "disruption",
            ["ran short of a resource", "The node was low on resource: ephemeral-storage.", "spec.worker.resources"],
        ),
        (
            ended(82, conditions=_disrupted("EvictionByEvictionAPI"), **DELETED),
            "Evicted",
            "disruption",
            ["kubectl drain"],
        ),
        (
            running(status_conditions=_disrupted("NodeReclaimed", "Node node-1 is about to go (x)"), **DELETED),
            "NodeReclaimed",
            "disruption",
            ["asked to save and stop", "Node node-1 is about to go (x)."],
        ),
        (
            ended(82, conditions=_disrupted("PreemptionByScheduler"), **DELETED),
            "PreemptedByScheduler",
            "disruption",
            ["spec.worker.priorityClassName"],
        ),
        (
            ended(137, status_reason="Preempting", conditions=_disrupted("TerminationByKubelet")),
            "PreemptedByScheduler",
            "disruption",
            [],
        ),
        (
            ended(82, status_reason="Terminated", conditions=_disrupted("TerminationByKubelet")),
            "NodeShutdown",
            "disruption",
            ["its node shuts down"],
        ),
        (
            cluster_objects.build_pod(phase="Failed", reason="NodeShutdown", message="Pod was rejected as"),
            "NodeShutdown",
            "disruption",
            ["Pod was rejected as."],
        ),
        (running(status_conditions=_disrupted("DeletionByTaintManager"), **DELETED), "NodeLost", "disruption", []),
        (
            cluster_objects.build_pod(phase="Failed", conditions=_disrupted("DeletionByPodGC")),
            "NodeLost",
            "disruption",
            ["Worker 0 on node node-1 was lost"],
        ),
        (
            running(status_conditions=cluster_objects.build_conditions(Ready="False", ContainersReady="True")),
            "NodeLost",
            "disruption",
            [],
        ),
        (ended(137, reason="ContainerStatusUnknown"), "NodeLost", "disruption", []),
        (
            ended(255, reason="Unknown"),  # what containerd tells after a power cut
            "NodeRestarted",
            "disruption",
            [
                "Worker 0 on node node-1 ended when its node or the container runtime there restarted",
                "newest checkpoint",
            ],
        ),
        (ended(255), "InternalError", "", ["exit status 255"]),
        (
            ended(
                128,
                reason="StartError",
                message="failed to create containerd task: failed to create shim task: OCI runtime create failed: "
                'exec: "imagetrain-worker": executable file not found in $PATH: unknown',
            ),
            "StartError",
            "permanent",
            ["executable file not found in $PATH: unknown. Check spec.worker.image"],
        ),
        (
            ended(128, reason="StartError", message="nvidia-container-cli: initialization error: timed out"),
            "StartError",
            "",
            ["nvidia-container-cli"],
        ),
        (
            cluster_objects.build_pod(
                phase="Failed",
                reason="UnexpectedAdmissionError",
                message="Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate "
                "unhealthy devices nvidia.com/gpu",
            ),
            "PodFailed",
            "",
            ["failed before it ran. UnexpectedAdmissionError: Pod was rejected: Allocate failed", "nvidia.com/gpu."],
        ),
        (cluster_objects.build_pod(phase="Failed"), "PodFailed", "", ["The pod of worker 0 on node node-1 failed"]),
        (cluster_objects.build_pod(phase="Failed", **DELETED), "PodDeleted", "disruption", []),
        (
            cluster_objects.build_pod(
                phase="Failed",
                initContainerStatuses=[
                    cluster_objects.build_container_status(
                        {"terminated": {"exitCode": 3, "reason": "Error", "message": "no route\nto host"}}, name="fetch"
                    )
                ],
            ),
            "ContainerFailed",
            "",
            [
                "Container 'fetch' in the pod of worker 0",
                "exit status 3. It ended with: no route to host.",
                "podTemplate",
            ],
        ),
        (ended(0, phase="Failed"), "ContainerFailed", "", ["Another container", "though the worker was done"]),
        (
            ended(139, message="loading\nFatal Python error: Segmentation fault"),
            "InternalError",
            "",
            ["ended with exit status 139 (SIGSEGV); the end of its log: loading Fatal Python error: Segmentation"],
        ),
        (ended(1, message="x" * 2000 + "end"), "InternalError", "", ["exit status 1; the end of its log: …x", "xend."]),
        (ended(127), "InternalError", "", ["Worker 0 on node node-1 ended with exit status 127. Read"]),
        (ended(83), "StorageUnavailable", "", ["did not answer. It was worker 0 on node node-1. Check"]),
        (
            ended(83, outcome=_outcome(101, "of another end")),  # written before something else ended it
            "StorageUnavailable",
            "",
            ["It was worker 0"],
        ),
        (ended(101, outcome={"exitCode": 101, "reason": "DataCorrupt", "message": ""}), "DataCorrupt", "permanent", []),
    ],
)
def test_the_end_of_one_pod_is_explained(pod, reason, traits, parts):
    failure = _must_explain(pod)
    assert failure.reason == reason
    assert failure.rank == 0
    assert failure.is_permanent == (traits == "permanent")
    assert failure.is_disruption == (traits == "disruption")
    for part in parts:
        assert part in failure.message


@pytest.mark.parametrize(
    ("others", "reason", "rank"),
    [
        # A crash tells more than a worker that missed its peer, even one seen earlier.
        ([ended(83, rank=1, finished_at="2026-03-01T10:05:09Z")], "StorageUnavailable", 1),
        ([ended(137, rank=1, reason="OOMKilled")], "OOMKilled", 1),
        # A permanent error tells more than a passing one.
        ([ended(83, rank=1), ended(102, rank=2, finished_at="2026-03-01T10:06:00Z")], "AccessDenied", 2),
        # Among equals the first.
        ([ended(83, rank=1, finished_at="2026-03-01T10:06:00Z"), ended(84, rank=2)], "DiskFull", 2),
        # All ranks stand still when one does, and a lost node explains it.
        ([ended(81, rank=1), running(rank=2, status_conditions=_disrupted("DeletionByTaintManager"))], "NodeLost", 2),
        ([ended(81, rank=1)], "Hung", 1),
        # A deleted worker explains its peers; the group agrees to stop, and a peer may be faster.
        ([ended(82, rank=1, **DELETED), ended(82, rank=2, finished_at="2026-03-01T10:04:00Z")], "PodDeleted", 1),
        # The Job controller deletes the others once one has failed: that is no cause.
        ([ended(82, rank=1, finished_at="2026-03-01T10:05:05Z", **DELETED_LATER)], "PeerLost", 0),
        ([running(rank=1, **DELETED_LATER)], "PeerLost", 0),
        # A group that took over, or a batch that crashes the process, is what the others' ends follow from.
        ([ended(86, rank=1, finished_at="2026-03-01T10:06:00Z")], "Fenced", 1),
        ([ended(106, rank=1, finished_at="2026-03-01T10:06:00Z")], "CrashLoop", 1),
        # Of two deletions the first: the Job controller deletes the other then, which may be faster to end.
        (
            [ended(82, rank=1, **DELETED), ended(82, rank=2, finished_at="2026-03-01T10:04:00Z", **DELETED_LATER)],
            "PodDeleted",
            1,
        ),
        # In the same second, the deletion counts.
        ([ended(82, rank=1, finished_at="2026-03-01T10:05:02Z", **DELETED)], "PodDeleted", 1),
        ([ended(82, rank=1)], "Preempted", 1),
        # A worker that is done, or goes on, is not to blame.
        ([ended(0, rank=1), running(rank=2)], "PeerLost", 0),
        ([ended(82, rank=1, conditions=_disrupted("PreemptionByScheduler"), **DELETED)], "PreemptedByScheduler", 1),
        ([ended(82, rank=1, conditions=_disrupted("NodeReclaimed"), **DELETED), ended(82, rank=2)], "NodeReclaimed", 1),
    ],
)  # fmt: skip
def test_the_guilty_one_is_found_among_its_peers(others, reason, rank):
    for pods in ((PEER_LOST, *others), (*others, PEER_LOST)):
        failure = _must_explain(*pods)
        assert (failure.reason, failure.rank) == (reason, rank)


@pytest.mark.parametrize(
    ("pods", "workers", "rank", "who"),
    [
        ([PEER_LOST], 2, 1, "The pod of worker 1 was deleted"),
        ([PEER_LOST], 4, None, "The pods of workers 1, 2, 3 were deleted"),
        ([PEER_LOST], 12, None, "The pods of workers 1, 2, 3, 4, 5, 6, 7, 8 and 3 more were deleted"),
        ([], 2, None, "The pods of all workers were deleted"),
        ([], 1, 0, "The pod of the worker was deleted"),
        ([ended(82, rank=0)], 2, 1, "The pod of worker 1 was deleted"),
    ],
)
def test_a_vanished_pod_counts_as_deleted(pods, workers, rank, who):
    failure = _must_explain(*pods, workers=workers)
    assert (failure.reason, failure.rank, failure.is_disruption) == ("PodDeleted", rank, True)
    assert failure.message.startswith(who)


def test_among_workers_that_failed_alike_one_is_named_whose_log_is_left():
    failure = _must_explain(ended(105, **DELETED), ended(105, rank=1), workers=2)
    assert (failure.reason, failure.rank) == ("NotFound", 1)


def test_a_vanished_pod_does_not_hide_another_cause():
    assert _must_explain(ended(102), workers=2).reason == "AccessDenied"


@pytest.mark.parametrize(
    "pods", [[], [running()], [running(), running(rank=1)], [ended(0), running(rank=1)], [cluster_objects.build_pod()]]
)
def test_nothing_is_explained_while_nothing_has_failed(pods):
    assert _explain(*pods, child=RUNNING_JOB, workers=2) is None


def test_a_job_that_failed_for_no_pod_s_sake_is_explained_by_its_message():
    assert _explain(running(), running(rank=1)) == causes.Failure(
        reason="AttemptFailed",
        message="The Kubernetes Job fashion-0 failed. Job has reached the specified backoff limit.",
        rank=None,
    )


def test_pods_that_go_on_without_their_job_have_not_failed():
    assert _explain(running(), running(rank=1), child=None) is None


@pytest.mark.parametrize("noise", ["x" * 5000, "line\n" * 900, "\x1b[31mred\x00\u202e" * 500])
def test_foreign_text_is_cut_and_cleaned(noise):
    pods = (
        ended(1, message=noise),
        ended(110, outcome=_outcome(110, noise[:2000])),
        ended(128, reason="StartError", message=noise),
        cluster_objects.build_pod(phase="Failed", reason="OutOfcpu", message=noise),
        ended(137, status_reason="Evicted", status_message=noise),
    )
    for pod in pods:
        failure = _must_explain(pod)
        assert failure.message.isprintable()
        assert "\u202e" not in failure.message


class TestOutcome:
    def test_the_chief_s_summary_is_read(self):
        document = {**_outcome(0), "manifestUri": "s3://models/x/manifest.json", "summary": {"accuracy": 0.9}}
        outcome = pod_ends.read_outcome(parse.parse_pod(ended(0, outcome=document)))
        assert outcome is not None
        assert outcome.manifest_uri == "s3://models/x/manifest.json"
        assert outcome.summary == {"accuracy": 0.9}

    def test_keys_of_a_newer_trainer_are_passed_over(self):
        outcome = pod_ends.read_outcome(parse.parse_pod(ended(0, outcome={**_outcome(0), "watts": 300})))
        assert outcome is not None
        assert outcome.reason == "Completed"

    @pytest.mark.parametrize("message", ["", "killed", "[1]", "{", '{"reason":"Completed"}', '{"exitCode":"0"}', "7"])
    def test_what_is_no_outcome_document_is_none(self, message):
        assert pod_ends.read_outcome(parse.parse_pod(ended(0, message=message))) is None


@pytest.mark.parametrize("code", [86, 106])
def test_a_fenced_attempt_and_a_crash_loop_are_not_started_again(code):
    assert _must_explain(ended(code, rank=0), ended(80, rank=1)).is_permanent
