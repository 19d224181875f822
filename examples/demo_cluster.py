"""`make demo-cluster`: the operator and a job of two workers on a real Kubernetes of two nodes on this machine.

Images would have to come from a registry, and here is none: the pods run this checkout and its virtual environment
instead, which a claim named host-files mounts read-only. That is all that differs from a cluster of yours. It stands in
the two files that the demo writes to .demo/cluster: operator/kustomization.yaml and digits.yaml.
"""

import base64
import os
import pathlib
import shutil
import subprocess
import sys

import boto3
import yaml

import demo
import walkthrough
from imagetrain_cluster import add_ons, cluster, errors, host_files, tools

NAMESPACE = "demo"
SYSTEM_NAMESPACE = "imagetrain-system"
DEPLOYMENT = "deployment/imagetrain-operator"
JOB = "digits"
SECRET = "s3-key"  # noqa: S105  # its name
FOLDER = walkthrough.DEMO_FOLDER / "cluster"
EXAMPLE = walkthrough.ROOT / "examples" / "digits.yaml"
TIMEOUT_SECONDS = 300
_ENDS = ("Succeeded", "Failed")


def main() -> None:
    """Run the demo on the cluster of `make cluster`, and end with 0 where the job has succeeded."""
    try:
        status = Demo(cluster.Cluster()).run()
    except errors.ClusterError as error:
        sys.exit(f"demo-cluster: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)


class Demo:
    """The steps of the demo.

    Args:
        running: a cluster that is up.
    """

    def __init__(self, running: cluster.Cluster) -> None:
        self._cluster = running
        self._kubectl = [str(tools.find("kubectl")), f"--kubeconfig={running.kubeconfig}"]

    def run(self) -> int:
        """Run all steps; return 0 where the job has succeeded."""
        walkthrough.say("Installing the operator")
        self._install_operator()
        walkthrough.say("Packing the digits into a data set on the S3 server in the cluster (versitygw)")
        s3 = self._cluster.s3()
        self._pack(s3)
        self._prepare_namespace(s3)
        self._show("rollout", "status", DEPLOYMENT, f"--namespace={SYSTEM_NAMESPACE}", "--timeout=60s")
        walkthrough.say("Applying examples/digits.yaml, with what this cluster needs added to its spec")
        manifest = self._write_manifest(s3)
        self._cluster.kubectl("delete", "itj", JOB, f"--namespace={NAMESPACE}", "--ignore-not-found")
        self._show("apply", f"--namespace={NAMESPACE}", f"--filename={os.path.relpath(manifest)}")
        walkthrough.say("Following it to its end")
        self._follow()
        return self._tell()

    def _install_operator(self) -> None:
        """Apply the overlay for a whole cluster, patched so that the pod runs this checkout."""
        was_there = self._cluster.get("deployment", "imagetrain-operator", namespace=SYSTEM_NAMESPACE) is not None
        self._cluster.create_namespace(SYSTEM_NAMESPACE)  # with the claim
        folder = FOLDER / "operator"
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(build_operator_overlay(folder), sort_keys=False, width=120)
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        self._show("apply", "--server-side", f"--kustomize={os.path.relpath(folder)}", hide_output=True)
        if was_there:  # it may run an earlier state of the checkout
            self._cluster.kubectl("rollout", "restart", DEPLOYMENT, f"--namespace={SYSTEM_NAMESPACE}")

    def _pack(self, s3: add_ons.S3) -> None:
        os.environ |= {
            "AWS_ENDPOINT_URL": s3.local_endpoint_url,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_REGION": s3.region,
            "NO_PROXY": "127.0.0.1",
        }
        client = boto3.client("s3", region_name=s3.region)
        if walkthrough.BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=walkthrough.BUCKET)
        images = walkthrough.DEMO_FOLDER / demo.NAME / "images"
        demo.write_images(images)
        prefix = f"datasets/{demo.NAME}/"
        uri = f"s3://{walkthrough.BUCKET}/{prefix}"
        if client.list_objects_v2(Bucket=walkthrough.BUCKET, Prefix=f"{prefix}dataset.json")["KeyCount"]:
            print(f"{uri} is there from an earlier run, and a data set never changes.")
        else:
            walkthrough.imagetrain("data", "pack", images, uri, "--name", demo.NAME)

    def _prepare_namespace(self, s3: add_ons.S3) -> None:
        """Make the namespace of the job, with the claim and with the S3 key that the manifest names."""
        self._cluster.create_namespace(NAMESPACE)
        key = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
        self._cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET, "namespace": NAMESPACE},
                "data": {name: base64.b64encode(value.encode()).decode() for name, value in key.items()},
            }
        )

    @staticmethod
    def _write_manifest(s3: add_ons.S3) -> pathlib.Path:
        added = build_job_overlay(s3)
        path = FOLDER / EXAMPLE.name
        path.write_text(EXAMPLE.read_text(encoding="utf-8") + added, encoding="utf-8")
        print(f"{os.path.relpath(path)} is examples/digits.yaml and\n\n{added}", flush=True)
        return path

    def _follow(self) -> None:
        """Print the rows of `kubectl get --watch` until the job has ended."""
        command = ["get", "itj", JOB, f"--namespace={NAMESPACE}", "--watch", f"--request-timeout={TIMEOUT_SECONDS}s"]
        print(f"$ kubectl {' '.join(command)}", flush=True)
        with subprocess.Popen([*self._kubectl, *command], stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            for line in watching.stdout:
                print(line, end="", flush=True)
                if set(line.split()) & set(_ENDS):
                    break
            watching.terminate()

    def _tell(self) -> int:
        """Print how the job ended and how to go on; return 0 where it has succeeded."""
        status = (self._cluster.get("itj", JOB, namespace=NAMESPACE) or {}).get("status", {})
        phase = status.get("phase", "Pending")
        walkthrough.say(f"{phase}: {status.get('message') or 'the operator has not seen the job yet.'}")
        if phase not in _ENDS:
            print(f"That is how it stands after {TIMEOUT_SECONDS} s.")
        for artifact in status.get("outputs", {}).get("artifacts", []):
            if "uri" in artifact:
                print(f"{artifact['format']:<16} {artifact['accuracy']:.4f}   {artifact['uri']}")
        described = self._cluster.kubectl("describe", "itj", JOB, f"--namespace={NAMESPACE}")
        print(f"\n$ kubectl describe itj {JOB} --namespace={NAMESPACE}\n...")
        print(described[described.index("\nEvents:") + 1 :].rstrip())
        self._tell_how_to_go_on()
        return 0 if phase == "Succeeded" else 1

    def _tell_how_to_go_on(self) -> None:
        walkthrough.say("The cluster runs on. To look around, and to end it:")
        if shutil.which("kubectl") is None:
            print(f"export PATH={tools.find('kubectl').parent}:$PATH")
        print(f"export KUBECONFIG={self._cluster.kubeconfig}")
        print(f"kubectl get itj,pods --namespace={NAMESPACE}")
        print(f"kubectl logs --namespace={NAMESPACE} --selector=imagetrain.dev/job={JOB} --prefix")
        print(f"kubectl logs --namespace={SYSTEM_NAMESPACE} {DEPLOYMENT}")
        print("make cluster-down")

    def _show(self, *arguments: str, hide_output: bool = False) -> None:
        """Print a kubectl command, and what it says."""
        print(f"$ kubectl {' '.join(arguments)}", flush=True)
        told = self._cluster.kubectl(*arguments)
        if not hide_output:
            print(told, end="", flush=True)


def build_operator_overlay(folder: pathlib.Path) -> dict[str, object]:
    """Return the kustomization for a folder: the overlay for a whole cluster, and this checkout for the image.

    On a cluster of yours `images:` with the name of your image takes the place of this patch (manifests/README.md).
    """
    base = os.path.relpath(walkthrough.ROOT / "manifests" / "overlays" / "cluster-wide", folder)
    container = {
        "name": "operator",
        "image": host_files.IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [str(host_files.SCRIPTS / "imagetrain-operator")],
        "env": [
            {"name": "IMAGETRAIN_OPERATOR_TRAINER_IMAGE", "value": host_files.IMAGE},
            {"name": "IMAGETRAIN_OPERATOR_PROGRESS_INTERVAL_SECONDS", "value": "2"},  # many rows to look at
        ],
        "volumeMounts": host_files.build_mounts(),
    }
    pod = {"containers": [container], "volumes": host_files.build_volumes()}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "imagetrain-operator", "namespace": SYSTEM_NAMESPACE},
        "spec": {"template": {"spec": pod}},
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "patches": [{"patch": yaml.safe_dump(patch, sort_keys=False)}],
    }


def build_job_overlay(s3: add_ons.S3) -> str:
    """Return what is added to `spec` of the example: the lines of a manifest."""
    mounts = "\n".join(f"      - {_flow(mount)}" for mount in host_files.build_mounts())
    volumes = "\n".join(f"      - {_flow(volume)}" for volume in host_files.build_volumes())
    return f"""\
  s3: # not Amazon's; a Secret of the namespace holds the key
    endpointUrl: {s3.endpoint_url}
    region: {s3.region}
    credentialsSecret: {SECRET}
  worker: # in place of an image with the trainer: this checkout and its virtual environment, read-only
    image: {host_files.IMAGE}
    imagePullPolicy: IfNotPresent
    env:
      - {{name: PATH, value: "{host_files.SCRIPTS}:/usr/bin"}}
    volumes:
{volumes}
    volumeMounts:
{mounts}
"""


def _flow(value: object) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()


if __name__ == "__main__":
    main()
