import http.client
import subprocess
import time
import urllib.request

import pytest

from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import host_files, wait

PYTHON = str(host_files.SCRIPTS / "python")
SERVE = [PYTHON, "-m", "http.server", "8000", "--directory", "/etc"]
SLEEP = ["/bin/sleep", "1000"]


def test_two_nodes_are_ready_with_a_gpu_each(cluster):
    nodes = cluster.list("node")

    assert [node["metadata"]["name"] for node in nodes] == ["n1", "n2"]
    assert [node["status"]["allocatable"][cluster_module.GPU] for node in nodes] == ["1", "1"]
    assert all(cluster.is_node_ready(number) for number in (1, 2))


def test_address_of_no_pod_yet_leads_to_its_node_still_when_somebody_has_tried_it(cluster):
    def say(*words):
        return cluster.popen(words, stdout=subprocess.PIPE).communicate()[0]

    unused = "10.244.2.250"
    script = f"import socket; print(socket.socket().connect_ex(({unused!r}, 80)))"
    assert say(PYTHON, "-c", f"import socket; socket.setdefaulttimeout(3); {script}").strip() != "0"

    assert "via 10.99.0.12 " in say("ip", "route", "get", unused)


@pytest.mark.timeout(180)  # TensorFlow imports for 10 s on an idle machine, and this one may be busy
def test_restricted_pod_imports_tensorflow_from_this_checkouts_environment(pods):
    pods.create("imports", [PYTHON, "-c", "import os, tensorflow; print(os.getuid(), tensorflow.__version__)"])

    assert pods.output("imports", timeout_seconds=150).splitlines()[-1].startswith("65532 2.")


def test_restricted_pod_runs_the_worker_command(cluster, pods):
    pods.create("worker", [str(host_files.SCRIPTS / "imagetrain-worker")])

    pods.wait_for_phase("worker", "Failed")
    said = cluster.kubectl("logs", "worker", f"--namespace={pods.namespace}")
    assert said == "imagetrain-worker: IMAGETRAIN_CONFIG must be set; `imagetrain run` and the operator set it.\n"


def test_restricted_namespace_refuses_a_host_path(cluster, namespace):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": namespace}}
    container = {"name": "main", "image": host_files.IMAGE}
    pod["spec"] = {"containers": [container], "volumes": [{"name": "root", "hostPath": {"path": "/"}}]}

    with pytest.raises(cluster_module.errors.ClusterError, match="restricted volume types"):
        cluster.apply(pod)


@pytest.mark.parametrize("headless", [True, False])
def test_pods_of_two_nodes_reach_each_other_by_name(pods, headless):
    pods.create_service("group", headless=headless)
    pods.create("server", SERVE, node="n1", service="group")
    pods.wait_for_phase("server", "Running")
    url = "http://server.group:8000/passwd" if headless else "http://group:8000/passwd"
    script = f"""
import time, urllib.request
while True:
    try:
        print(urllib.request.urlopen({url!r}, timeout=2).read().decode())
        break
    except OSError:
        time.sleep(0.2)  # the name is known a second after the pod runs
"""
    pods.create("client", [PYTHON, "-c", script], node="n2", service="group")

    assert "nonroot:x:65532" in pods.output("client")


def test_pods_of_one_node_reach_each_other_through_a_service(pods):
    pods.create_service("web", headless=False)
    pods.create("server", SERVE, node="n2", service="web")
    pods.wait_for_phase("server", "Running")
    script = """
import time, urllib.request
while True:
    try:
        print(urllib.request.urlopen("http://web:8000/passwd", timeout=2).read().decode())
        break
    except OSError:
        time.sleep(0.2)
"""
    pods.create("client", [PYTHON, "-c", script], node="n2")

    assert "nonroot:x:65532" in pods.output("client")


def test_pod_waits_for_a_gpu_until_a_node_offers_it(cluster, pods):
    pods.create("greedy", SLEEP, gpus=3)
    scheduled = wait.until(
        lambda: pods.status("greedy").get("conditions"), timeout_seconds=30, what="the scheduler's verdict"
    )
    assert scheduled[0]["reason"] == "Unschedulable"
    assert "Insufficient nvidia.com/gpu" in scheduled[0]["message"]

    cluster.set_gpus(2, 3)
    try:
        pods.wait_for_phase("greedy", "Running")
    finally:
        cluster.set_gpus(2, 1)


def test_killed_node_is_not_ready_within_20_seconds(cluster, killed_node):
    wait.until(lambda: not cluster.is_node_ready(killed_node), timeout_seconds=20, what="n2 becoming NotReady")


def test_node_that_starts_again_is_ready_and_runs_pods(cluster, pods):
    cluster.kill_node(2)
    cluster.start_node(2)

    pods.create("after", ["/bin/echo", "alive"], node="n2")
    assert pods.output("after") == "alive\n"


def test_partitioned_node_is_not_ready_while_its_pods_run_on(cluster, pods, partitioned_node):
    wait.until(lambda: not cluster.is_node_ready(partitioned_node), timeout_seconds=20, what="n2 becoming NotReady")

    assert "kubelet" in cluster.exec_on_node(partitioned_node, ["ps", "-e"]).stdout


def test_clients_find_the_api_server_again_after_a_restart(cluster, namespace):
    cluster.restart_api_server()

    assert cluster.get("namespace", namespace) is not None


def test_process_in_the_client_namespace_reaches_pods_names_and_the_api(cluster, pods):
    pods.create("server", SERVE)
    address = pods.wait_for_phase("server", "Running")["podIP"]
    script = f"""
import json, os, socket, ssl, time, urllib.request
config = json.load(open(os.environ["KUBECONFIG"]))
print(config["clusters"][0]["cluster"]["server"], socket.gethostbyname("kubernetes.default.svc.cluster.local"))
while True:
    try:
        print(urllib.request.urlopen("http://{address}:8000/passwd", timeout=2).status)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
"""
    process = cluster.popen([PYTHON, "-c", script], stdout=subprocess.PIPE, env={"WORD": "known"})

    assert process.communicate(timeout=60)[0].split() == ["https://10.99.0.1:6443", "10.96.0.1", "200"]


def test_forwarded_port_leads_to_a_pod(cluster, pods):
    pods.create("server", SERVE)
    port = cluster.forward(pods.wait_for_phase("server", "Running")["podIP"], 8000)

    def answer():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=5).read()
        except (OSError, http.client.HTTPException):
            return None  # the server has not begun to listen

    assert b"nonroot" in wait.until(answer, timeout_seconds=30, what="an answer")


def test_pod_that_is_told_to_end_is_gone_at_once(cluster, pods):
    pods.create("short", [PYTHON, "-c", "import signal; signal.sigwait([signal.SIGTERM])"])
    pods.wait_for_phase("short", "Running")
    begun = time.monotonic()

    cluster.kubectl("delete", "pod", "short", f"--namespace={pods.namespace}")

    assert time.monotonic() - begun < 5
