"""`imagetrain data bench` as a user meets it."""

import json

import numpy as np
import pytest

from imagetrain_api import exit_codes, names
from imagetrain_client.cli import main
from imagetrain_trainer.data import pack

STAGES = ["get", "crc", "parse", "batch", "decode", "all"]


@pytest.fixture
def packed(tmp_path):
    source = tmp_path / "shapes.npz"
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
    np.savez(source, x=images, y=np.arange(40) % 2)
    pack.pack(source, str(tmp_path / "set"))
    return tmp_path / "set"


@pytest.fixture
def run(capsys):
    """Run the command; return its status, output and error output."""

    def command(*arguments):
        status = main.run_command(["data", "bench", *map(str, arguments), "--seconds", "0.1"])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_each_stage_has_a_line_and_the_bound_is_named(packed, run, tmp_path):
    status, out, err = run(packed, "--cache", tmp_path / "cache")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{packed.as_uri()}/: 24 images, ")
    assert [line.split()[0] for line in lines[2:10]] == [*STAGES[:3], "cache", "cache", *STAGES[3:]]
    assert any(" bounds: " in line for line in lines)
    assert any(line.startswith("All together gave ") for line in lines)
    assert list((tmp_path / "cache").iterdir()) == []


def test_programs_get_a_document(packed, run):
    status, out, _ = run(packed, "--json", "--batch", 4, "--size", "8x8", "--split", "test")
    assert status == 0
    document = json.loads(out)
    assert [stage["name"] for stage in document["stages"]] == STAGES
    assert sum(stage["cpuShare"] or 0 for stage in document["stages"]) == pytest.approx(1)
    assert {limit["name"] for limit in document["limits"]} == {"cores", "python"}  # 64 MiB and less stay in memory
    assert document["records"] == 8
    assert document["advice"]


def test_a_jobs_manifest_gives_shape_batch_and_augmentation(packed, run, tmp_path):
    manifest = tmp_path / "job.yaml"
    manifest.write_text(
        f"""
apiVersion: {names.API_VERSION}
kind: ImageTrainingJob
metadata: {{name: shapes}}
spec:
  data: {{uri: "{packed.as_uri()}"}}
  model: {{architecture: small_cnn, inputShape: [6, 5, 1]}}
  training: {{globalBatchSize: 8, augmentation: {{rotationDegrees: 10}}}}
  output: {{uri: "{(tmp_path / "out").as_uri()}"}}
"""
    )
    status, out, _ = run(packed, "--manifest", manifest, "--json")
    assert status == 0
    assert [stage["name"] for stage in json.loads(out)["stages"]] == [*STAGES[:5], "augment", "all"]


def test_reading_alone_needs_no_tensorflow(packed, run):
    status, out, _ = run(packed, "--reading-only", "--json")
    assert status == 0
    assert [stage["name"] for stage in json.loads(out)["stages"]] == STAGES[:3]


@pytest.mark.parametrize("size", ["224", "0x5", "ax5"])
def test_a_size_that_is_none_is_refused(packed, run, size):
    status, _, err = run(packed, "--size", size)
    assert status != 0
    assert "must be height x width in pixels such as 224x224" in err


def test_no_data_set_is_said_as_by_the_other_commands(tmp_path, run):
    status, _, err = run(tmp_path)
    assert status == exit_codes.ExitCode.NOT_FOUND
    assert "holds no packed data set" in err
