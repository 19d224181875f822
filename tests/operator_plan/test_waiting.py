import pytest

import cluster_objects
from imagetrain_api import status
from imagetrain_operator import observed
from imagetrain_operator.plan import parse, waiting

PULL = (
    'Back-off pulling image "registry.example.com/none:1": ErrImagePull: rpc error: code = NotFound desc = failed to '
    'pull and unpack image "registry.example.com/none:1": not found'
)
QUOTA = (
    'pods "fashion-0-1-" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=1, used: '
    "requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)
RBAC = (
    'jobs.batch is forbidden: User "system:serviceaccount:imagetrain:operator" cannot create resource "jobs" in API '
    'group "batch" in the namespace "vision"'
)
MOUNT = 'MountVolume.SetUp failed for volume "cache" : secret "tls" not found'


def _observe(*pods, denial=None, mount_problem="", attempt=0, **spec):
    job = parse.parse_training_job(
        cluster_objects.build_training_job(status={"attempt": attempt}, **{"s3": {"credentialsSecret": "s3"}, **spec})
    )
    return observed.Observation(
        job=job,
        child_jobs=(),
        pods=tuple(parse.parse_pod(pod) for pod in pods),
        progress=None,
        denial=denial,
        mount_problem=mount_problem,
    )


def _waiting_pod(reason, message="", *, rank=0):
    state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    return cluster_objects.build_pod(rank=rank, containerStatuses=[cluster_objects.build_container_status(state)])


def _unschedulable_pod(message, *, rank=0):
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]
    return cluster_objects.build_pod(rank=rank, node="", conditions=conditions)


@pytest.mark.parametrize(
    ("pod", "reason", "parts"),
    [
        (
            _waiting_pod("ImagePullBackOff", PULL, rank=1),
            "ImagePullFailed",
            ["Worker 1 cannot get its image (ImagePullBackOff)", PULL, "spec.worker.imagePullSecrets"],
        ),
        (_waiting_pod("ErrImagePull", PULL), "ImagePullFailed", ["Worker 0", "Check spec.worker.image,"]),
        (
            _waiting_pod("InvalidImageName", 'Failed to apply default image tag "a b": invalid reference format'),
            "ImagePullFailed",
            ["invalid reference format. Correct spec.worker.image."],
        ),
        (
            _waiting_pod("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'),
            "ImagePullFailed",
            ["set spec.worker.imagePullPolicy to IfNotPresent"],
        ),
        (
            _waiting_pod("CreateContainerConfigError", 'secret "s3" not found'),
            "SecretMissing",
            [
                "Worker 0 waits for the Secret 's3', which does not exist. Create it: kubectl create secret generic s3",
                " -n vision --from-literal=AWS_ACCESS_KEY_ID=... --from-literal=AWS_SECRET_ACCESS_KEY=...",
            ],
        ),
        (
            _waiting_pod("CreateContainerConfigError", 'secret "wandb" not found'),  # one of the user's own env
            "SecretMissing",
            ["kubectl create secret generic wandb -n vision --from-literal=KEY=..."],
        ),
        (
            _waiting_pod("CreateContainerConfigError", "couldn't find key AWS_ACCESS_KEY_ID in Secret vision/s3"),
            "SecretMissing",
            ["key AWS_ACCESS_KEY_ID", """kubectl patch secret s3 -n vision -p '{"stringData":{"AWS_ACCESS_KEY_ID":"""],
        ),
        (
            _waiting_pod("CreateContainerConfigError", 'configmap "settings" not found'),
            "ContainerConfigError",
            ['configmap "settings" not found.', "Correct env"],
        ),
        (
            _waiting_pod("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
            "ContainerConfigError",
            ["runAsNonRoot"],
        ),
        (_waiting_pod("RunContainerError"), "ContainerConfigError", ["(RunContainerError). Correct"]),
    ],
)
def test_what_a_container_waits_for_needs_the_user(pod, reason, parts):
    cause = waiting.explain_waiting(_observe(cluster_objects.build_running_pod(rank=1), pod))
    assert cause is not None
    assert (cause.reason, cause.is_stuck) == (reason, True)
    for part in parts:
        assert part in cause.message


@pytest.mark.parametrize("kind", ["secret", "configmap"])
def test_what_kubelet_has_not_read_yet_is_no_trouble(kind):
    told = f"failed to sync {kind} cache: timed out waiting for the condition"
    problem = f'MountVolume.SetUp failed for volume "cache" : {told}'
    for cause in (
        waiting.explain_waiting(_observe(_waiting_pod("CreateContainerConfigError", told))),
        waiting.explain_waiting(_observe(_waiting_pod("ContainerCreating"), mount_problem=problem)),
    ):
        assert cause is not None
        assert (cause.reason, cause.is_stuck) == ("StartingWorkers", False)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/2",
            "GPUs",
        ),
        ("0/2 nodes are available: 2 Insufficient cpu.", "lower spec.worker.resources"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}.", "spec.worker.tolerations"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "nodeSelector"),
        ("0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.", "topologySpread"),
        ('0/2 nodes are available: persistentvolumeclaim "cache" not found.', "claims"),
        ("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "claims"),
        ("no nodes available to schedule pods", "Compare the nodes"),
    ],
)
def test_the_scheduler_s_words_are_told_with_advice(message, advice):
    pods = [_unschedulable_pod(message, rank=rank) for rank in (1, 0)]
    cause = waiting.explain_waiting(_observe(*pods))
    assert cause is not None
    assert cause.reason == "Unschedulable"
    assert not cause.is_stuck  # nodes may come
    assert cause.message.startswith(f"Workers 0, 1 fit on no node: {message.partition(' no new claims')[0]}")
    assert "preemption" not in cause.message
    assert advice in cause.message


@pytest.mark.parametrize(
    ("message", "reason", "is_stuck", "advice"),
    [
        (QUOTA, "QuotaExceeded", False, "raise the quota"),
        (
            'pods "fashion-0-0-" is forbidden: failed quota: team: must specify limits.cpu for: worker',
            "QuotaExceeded",
            True,
            "state them in spec.worker.resources",
        ),
        (
            (
                'Error creating: pods "fashion-0-0-x" is forbidden: violates PodSecurity "restricted:latest": host '
                "namespaces (hostNetwork=true)"
            ),
            "PodsRefused",
            True,
            "namespace's level",
        ),
        (
            (
                'pods "fashion-0-0-" is forbidden: error looking up service account vision/trainer: serviceaccount '
                '"trainer" not found'
            ),
            "PodsRefused",
            True,
            "Create the ServiceAccount",
        ),
        (
            'pods "fashion-0-0-" is forbidden: no PriorityClass with name high was found',
            "PodsRefused",
            True,
            "Create the PriorityClass",
        ),
        (
            'Internal error occurred: failed calling webhook "policy.example.com": connection refused',
            "PodsRefused",
            False,
            "does not answer",
        ),
        (
            'admission webhook "policy.example.com" denied the request: label team is missing',
            "PodsRefused",
            True,
            "change spec.worker",
        ),
        (RBAC, "PodsRefused", False, "lacks a right"),
        (
            (
                'jobs.batch "fashion-0" is forbidden: unable to create new content in namespace vision because it is '
                "being terminated"
            ),
            "PodsRefused",
            False,
            "in another",
        ),
        (
            'Job.batch "fashion-0" is invalid: spec.template.spec.containers[0].volumeMounts[2].name: Not found: "x"',
            "PodsRefused",
            True,
            "Correct the field",
        ),
        ("spec.worker.podTemplate.spec must be an object, got 7.", "InvalidWorkerSettings", True, "Correct"),
        ('pods "fashion-0-0-" is forbidden: maximum cpu usage per Container is 1', "PodsRefused", True, "Change"),
    ],
)
def test_a_refusal_is_told_with_advice(message, reason, is_stuck, advice):
    cause = waiting.explain_waiting(_observe(denial=observed.Denial(message=message)))
    assert cause is not None
    assert (cause.reason, cause.is_stuck) == (reason, is_stuck)
    assert cause.message.startswith(f"The workers are refused: {message.removeprefix('Error creating: ')}")
    assert advice in cause.message


def test_a_final_refusal_is_stuck_whatever_it_says():
    cause = waiting.explain_waiting(_observe(denial=observed.Denial(message=QUOTA, is_final=True)))
    assert cause is not None
    assert cause.is_stuck


@pytest.mark.parametrize(
    ("problem", "reason", "is_stuck", "part"),
    [
        (MOUNT, "SecretMissing", True, "kubectl create secret generic tls -n vision"),
        (
            'MountVolume.SetUp failed for volume "data" : hostPath type check failed: /data is not a directory',
            "VolumeNotMounted",
            True,
            "Worker 0 waits for a volume: MountVolume.SetUp failed",
        ),
        (
            'AttachVolume.Attach failed for volume "pvc-1" : timed out waiting for external-attacher',
            "VolumeNotMounted",
            False,
            "Check spec.worker.volumes.",
        ),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_told(problem, reason, is_stuck, part):
    cause = waiting.explain_waiting(_observe(_waiting_pod("ContainerCreating"), mount_problem=problem))
    assert cause is not None
    assert (cause.reason, cause.is_stuck) == (reason, is_stuck)
    assert part in cause.message


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        ([], "0 of 2 workers ready, 2 not made yet."),
        ([cluster_objects.build_pod(node="")], "0 of 2 workers ready, 1 not made yet, 1 without a node."),
        (
            [cluster_objects.build_running_pod(rank=0), _waiting_pod("ContainerCreating", rank=1)],
            "1 of 2 workers ready, 1 starting.",
        ),
        (
            [
                cluster_objects.build_running_pod(rank=0, is_ready=False),
                cluster_objects.build_pod(rank=1, node=""),
                cluster_objects.build_pod(rank=1, attempt=1),  # of another attempt
            ],
            "0 of 2 workers ready, 1 without a node, 1 starting.",
        ),
    ],
)
def test_without_a_trouble_the_workers_are_counted(pods, message):
    assert waiting.explain_waiting(_observe(*pods)) == waiting.Waiting(reason="StartingWorkers", message=message)


def test_ready_workers_wait_for_nothing():
    assert waiting.explain_waiting(_observe(*map(_ready, range(2)))) is None


def _ready(rank):
    return cluster_objects.build_running_pod(rank=rank)


def test_an_invalid_job_has_no_workers_that_could_wait():
    assert waiting.explain_waiting(_observe(workers=0)) is None


@pytest.mark.parametrize(
    ("pods", "denial", "expected"),
    [
        ([_unschedulable_pod("no room", rank=0), _waiting_pod("ErrImagePull", rank=1)], None, "ImagePullFailed"),
        ([_waiting_pod("ErrImagePull", rank=1)], QUOTA, "ImagePullFailed"),
        ([_unschedulable_pod("no room", rank=0)], QUOTA, "QuotaExceeded"),
        ([_waiting_pod("ErrImagePull", rank=1)], "violates PodSecurity", "PodsRefused"),
        ([cluster_objects.build_running_pod(rank=0)], QUOTA, "QuotaExceeded"),
    ],
)
def test_what_the_user_must_mend_comes_first(pods, denial, expected):
    cause = waiting.explain_waiting(_observe(*pods, denial=observed.Denial(message=denial) if denial else None))
    assert cause is not None
    assert cause.reason == expected


def test_many_workers_are_named_up_to_a_limit():
    pods = [_waiting_pod("ErrImagePull" if rank % 2 else "ImagePullBackOff", rank=rank) for rank in range(12)]
    cause = waiting.explain_waiting(_observe(*pods, workers=12))
    assert cause is not None
    assert cause.message.startswith("Workers 0, 1, 2, 3, 4, 5, 6, 7 and 4 more cannot get their image (")


@pytest.mark.parametrize("noise", ["x" * 5000, "line\n" * 900, "\x1b[31mred\x00" * 500])
def test_foreign_text_is_cut_and_cleaned_and_the_advice_stays(noise):
    troubled = (
        _observe(_waiting_pod("ErrImagePull", noise)),
        _observe(_waiting_pod("CreateContainerError", noise)),
        _observe(_waiting_pod("ContainerCreating"), mount_problem=noise),
        _observe(_unschedulable_pod(noise)),
        _observe(denial=observed.Denial(message=noise)),
    )
    for observation in troubled:
        cause = waiting.explain_waiting(observation)
        assert cause is not None
        assert len(cause.message) <= status.MAX_MESSAGE_CHARACTERS
        assert cause.message.isprintable()
        assert "spec.worker" in cause.message
