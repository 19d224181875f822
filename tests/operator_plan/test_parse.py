import datetime as dt
import time

import pytest

import cluster_objects
from imagetrain_api import names, status
from imagetrain_operator import observed
from imagetrain_operator.plan import parse

UTC = dt.UTC
CONDITION = {
    "type": "Training",
    "status": "True",
    "reason": "Stepping",
    "message": "Epoch 2 of 5.",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-03-01T10:00:09Z",
}


def _parse_pod(raw):
    pod = parse.parse_pod(raw)
    assert pod is not None
    return pod


class TestTrainingJob:
    def test_a_valid_job_is_decoded(self):
        parsed = parse.parse_training_job(cluster_objects.build_training_job())
        assert parsed.key == observed.Key("vision", "fashion")
        assert (parsed.uid, parsed.generation, parsed.resource_version) == (cluster_objects.JOB_UID, 1, "1041")
        assert parsed.job is not None
        assert parsed.job.spec.workers == 2
        assert parsed.errors == ()
        assert not parsed.is_deleting
        assert parsed.status == status.JobStatus()

    def test_an_invalid_job_keeps_its_broken_rules(self):
        parsed = parse.parse_training_job(cluster_objects.build_training_job(workers=0, colour="red"))
        assert parsed.job is None
        assert {error.path for error in parsed.errors} == {"spec.workers", "spec.colour"}

    def test_a_job_being_deleted_says_so(self):
        metadata = {"deletionTimestamp": "2026-03-01T11:00:00Z", "deletionGracePeriodSeconds": 0}
        assert parse.parse_training_job(cluster_objects.build_training_job(metadata=metadata)).is_deleting

    def test_the_spec_of_a_known_generation_is_not_decoded_again(self):
        known = parse.parse_training_job(cluster_objects.build_training_job())
        newer = cluster_objects.build_training_job(metadata={"resourceVersion": "1050"}, status={"restarts": 3})
        parsed = parse.parse_training_job(newer, known)
        assert parsed.job is known.job
        assert parsed.resource_version == "1050"
        assert parsed.status.restarts == 3

    @pytest.mark.parametrize("changed", [{"generation": 2}, {"uid": "another"}])
    def test_another_generation_or_uid_is_decoded_anew(self, changed):
        known = parse.parse_training_job(cluster_objects.build_training_job())
        parsed = parse.parse_training_job(cluster_objects.build_training_job(metadata=changed, workers=4), known)
        assert parsed.job is not None
        assert parsed.job.spec.workers == 4


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, status.JobStatus()),
        ("text", status.JobStatus()),
        ({}, status.JobStatus()),
        ({"restarts": 2, "attempt": 2}, status.JobStatus(restarts=2, attempt=2)),
        ({"restarts": 2, "gpuHours": 7}, status.JobStatus(restarts=2)),  # a newer version's key
        ({"restarts": -1, "attempt": 2}, status.JobStatus(attempt=2)),
        ({"restarts": "2", "attempt": 2}, status.JobStatus(attempt=2)),
        ({"phase": "Resizing", "attempt": 2}, status.JobStatus(attempt=2)),  # a newer version's word
        ({"runId": None}, status.JobStatus()),
        (
            {"progress": {"step": 7, "imagesPerSecond": 100, "watts": 300}},
            status.JobStatus(progress=status.ProgressStatus(step=7, images_per_second=100.0)),
        ),
        ({"progress": 7, "attempt": 1}, status.JobStatus(attempt=1)),
        ({"outputs": {"artifacts": []}, "attempt": 1}, status.JobStatus(attempt=1)),  # without the required URI
        ({"attempts": [{"attempt": 0}, {"attempt": 1, "reason": "Hung"}, 7]}, status.JobStatus(attempts=(
            status.AttemptStatus(attempt=1, reason="Hung"),))),
        ({"attempts": {"0": "Hung"}}, status.JobStatus()),
        (
            {"conditions": [{**CONDITION, "type": "Resizing"}, {**CONDITION, "severity": "None"}]},
            status.JobStatus(
                conditions=(
                    status.Condition(
                        type="Training",
                        status="True",
                        reason="Stepping",
                        message="Epoch 2 of 5.",
                        observed_generation=1,
                        last_transition_time="2026-03-01T10:00:09Z",
                    ),
                )
            ),
        ),
    ],
)  # fmt: skip
def test_a_status_keeps_what_can_be_understood(raw, expected):
    assert parse.parse_training_job(cluster_objects.build_training_job(status=raw)).status == expected


class TestChildJob:
    def test_a_running_attempt(self):
        assert parse.parse_child_job(cluster_objects.build_child_job(attempt=2)) == observed.ChildJob(
            namespace="vision",
            name="fashion-2",
            uid="5d2c3a52-0000-4000-8000-000000000002",
            resource_version="1102",
            owner_uid=cluster_objects.JOB_UID,
            job_name="fashion",
            attempt=2,
            created_at=dt.datetime(2026, 3, 1, 10, 0, 1, tzinfo=UTC),
            is_deleting=False,
            is_failed=False,
            is_complete=False,
            message="",
        )

    def test_the_time_at_which_the_job_controller_came_to_it_is_kept(self):
        raw = cluster_objects.build_child_job()
        started = parse.parse_child_job({**raw, "status": {**raw["status"], "startTime": "2026-03-01T10:00:02Z"}})
        assert started is not None
        assert started.started_at == dt.datetime(2026, 3, 1, 10, 0, 2, tzinfo=UTC)
        assert started == parse.parse_child_job(raw)  # which is no news

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ([("Failed", "True", "Job has reached the specified backoff limit")], (True, False)),
            ([("FailureTarget", "True", "Job has reached the specified backoff limit")], (True, False)),
            ([("SuccessCriteriaMet", "True", "Reached expected number of succeeded pods")], (False, False)),
            (
                [("SuccessCriteriaMet", "True", ""), ("Complete", "True", "Reached expected number of succeeded pods")],
                (False, True),
            ),
            ([("Failed", "False", "")], (False, False)),
            ([("Suspended", "True", "Job suspended")], (False, False)),
        ],
    )
    def test_its_end_is_read_from_its_conditions(self, conditions, expected):
        raw = [{"type": kind, "status": value, "message": message} for kind, value, message in conditions]
        child = parse.parse_child_job(cluster_objects.build_child_job(conditions=raw))
        assert child is not None
        assert (child.is_failed, child.is_complete) == expected
        assert child.message == (conditions[-1][2] if any(expected) else "")

    @pytest.mark.parametrize(
        "labels",
        [
            None,
            {},
            {names.LABEL_JOB: "fashion"},
            {names.LABEL_ATTEMPT: "0"},
            {names.LABEL_JOB: "fashion", names.LABEL_ATTEMPT: "x"},
            {names.LABEL_JOB: "fashion", names.LABEL_ATTEMPT: "-1"},
            {names.LABEL_JOB: "fashion", names.LABEL_ATTEMPT: "²"},  # a digit to str.isdigit, not to int
        ],
    )
    def test_without_its_labels_it_is_none_of_ours(self, labels):
        assert parse.parse_child_job(cluster_objects.build_child_job(labels=labels)) is None

    @pytest.mark.parametrize(
        "owners",
        [
            [],
            [{"apiVersion": "imagetrain.dev/v1alpha1", "kind": "ImageTrainingJob", "name": "fashion", "uid": "1"}],
            [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "fashion", "uid": "1", "controller": True}],
        ],
    )
    def test_an_object_that_no_training_job_controls_has_no_owner(self, owners):
        child = parse.parse_child_job(cluster_objects.build_child_job(ownerReferences=owners))
        assert child is not None
        assert child.owner_uid == ""


class TestPod:
    def test_a_pod_just_made(self):
        assert _parse_pod(cluster_objects.build_pod(rank=1, node="")) == observed.Pod(
            namespace="vision",
            name="fashion-0-1-x7k2p",
            uid="9a1f3f0c-0000-4000-8000-000000000001",
            resource_version="1203",
            job_name="fashion",
            run_id=cluster_objects.RUN_ID,
            attempt=0,
            rank=1,
            created_at=dt.datetime(2026, 3, 1, 10, 0, 2, tzinfo=UTC),
            phase="Pending",
            node="",
            ip="",
            is_ready=False,
            is_node_lost=False,
            deletion_deadline=None,
            deleted_at=None,
            unschedulable="",
            waiting_reason="",
            waiting_message="",
            restarts=0,
            exit_code=None,
            exit_reason="",
            exit_message="",
            finished_at=None,
            pod_reason="",
            pod_message="",
            disruption="",
        )

    def test_a_running_worker_is_ready_when_its_container_is(self):
        pod = _parse_pod(cluster_objects.build_running_pod(rank=1))
        assert (pod.phase, pod.node, pod.ip, pod.is_ready) == ("Running", "node-1", "10.244.1.8", True)
        assert not _parse_pod(cluster_objects.build_running_pod(is_ready=False)).is_ready

    def test_an_ended_worker_keeps_its_end(self):
        pod = _parse_pod(cluster_objects.build_ended_pod(137, reason="OOMKilled", message="boom"))
        assert (pod.phase, pod.exit_code, pod.exit_reason, pod.exit_message) == ("Failed", 137, "OOMKilled", "boom")
        assert pod.finished_at == dt.datetime(2026, 3, 1, 10, 5, tzinfo=UTC)
        assert pod.exit_container == "worker"
        assert pod.is_finished

    def test_the_scheduler_s_refusal_is_kept(self):
        message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
        conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
        assert _parse_pod(cluster_objects.build_pod(node="", conditions=conditions)).unschedulable == message
        conditions[0]["reason"] = "SchedulingGated"
        assert _parse_pod(cluster_objects.build_pod(node="", conditions=conditions)).unschedulable == ""

    def test_the_time_of_its_placing_is_kept(self):
        for answer, expected in (("True", dt.datetime(2026, 3, 1, 10, 0, 3, tzinfo=UTC)), ("False", None)):
            conditions = cluster_objects.build_conditions(PodScheduled=answer)
            assert _parse_pod(cluster_objects.build_pod(conditions=conditions)).placed_at == expected

    def test_a_wait_with_a_trouble_counts_before_an_ordinary_one(self):
        pull = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere/none:1"'}
        pod = _parse_pod(
            cluster_objects.build_pod(
                initContainerStatuses=[
                    cluster_objects.build_container_status({"waiting": {"reason": "PodInitializing"}}, name="fetch")
                ],
                containerStatuses=[cluster_objects.build_container_status({"waiting": pull})],
            )
        )
        assert (pod.waiting_reason, pod.waiting_message) == (pull["reason"], pull["message"])

    def test_an_ordinary_wait_is_kept_too(self):
        state = {"waiting": {"reason": "ContainerCreating"}}
        pod = _parse_pod(cluster_objects.build_pod(containerStatuses=[cluster_objects.build_container_status(state)]))
        assert (pod.waiting_reason, pod.waiting_message) == ("ContainerCreating", "")

    @pytest.mark.parametrize(("phase", "expected"), [("Failed", ("fetch", 3)), ("Running", ("worker", None))])
    def test_the_end_of_another_container_counts_once_it_failed_the_pod(self, phase, expected):
        pod = _parse_pod(
            cluster_objects.build_pod(
                phase=phase,
                initContainerStatuses=[
                    cluster_objects.build_container_status({"terminated": {"exitCode": 0, "reason": "Completed"}}),
                    cluster_objects.build_container_status({"terminated": {"exitCode": 3}}, name="fetch"),
                ],
                containerStatuses=[cluster_objects.build_container_status({"waiting": {"reason": "PodInitializing"}})],
            )
        )
        assert (pod.exit_container, pod.exit_code) == expected

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({"Ready": "True", "ContainersReady": "True"}, False),
            ({"Ready": "False", "ContainersReady": "True"}, True),
            ({"Ready": "False", "ContainersReady": "False"}, False),
            ({}, False),
        ],
    )
    def test_a_pod_given_up_by_its_node_s_controller_is_on_a_lost_node(self, conditions, expected):
        raw = cluster_objects.build_running_pod()
        raw["status"]["conditions"] = cluster_objects.build_conditions(**conditions)
        pod = _parse_pod(raw)
        assert pod.is_node_lost is expected
        assert pod.is_ready is not expected

    def test_an_open_readiness_gate_is_no_lost_node(self):
        raw = cluster_objects.build_running_pod()
        raw["status"]["conditions"] = [
            {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
            {"type": "ContainersReady", "status": "True"},
        ]
        assert not _parse_pod(raw).is_node_lost

    def test_deletion_and_disruption_are_kept(self):
        conditions = [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
            }
        ]
        pod = _parse_pod(
            cluster_objects.build_pod(
                phase="Running",
                reason="NodeLost",
                conditions=conditions,
                metadata={"deletionTimestamp": "2026-03-01T10:07:00Z", "deletionGracePeriodSeconds": 120},
            )
        )
        assert pod.disruption == "DeletionByTaintManager"
        assert pod.is_node_lost
        assert pod.deletion_deadline == dt.datetime(2026, 3, 1, 10, 7, tzinfo=UTC)
        assert pod.deleted_at == dt.datetime(2026, 3, 1, 10, 5, tzinfo=UTC)

    @pytest.mark.parametrize("missing", [names.LABEL_JOB, names.LABEL_ATTEMPT, names.LABEL_RANK])
    def test_without_its_labels_it_is_none_of_ours(self, missing):
        raw = cluster_objects.build_running_pod()
        del raw["metadata"]["labels"][missing]
        assert parse.parse_pod(raw) is None

    def test_it_takes_less_than_30_microseconds(self):
        raw = cluster_objects.build_ended_pod(80, outcome={"exitCode": 80, "reason": "PeerLost"})
        seconds = min(_timed(raw) for _ in range(50))  # the fastest of many: other programs only add to it
        assert seconds / 100 < 30e-6


def _timed(raw):
    start = time.perf_counter()
    for _ in range(100):
        parse.parse_pod(raw)
    return time.perf_counter() - start
