import subprocess
import sys

MODULES = (
    "artifacts",
    "card",
    "catalog",
    "charts",
    "download",
    "gate",
    "latest",
    "pixels",
    "predict",
    "publisher",
    "report",
)


def test_what_readers_and_the_supervisor_import_loads_no_tensorflow():
    imports = "\n".join(f"import imagetrain_trainer.publish.{module}" for module in MODULES)
    check = "import sys\nassert not {'tensorflow', 'keras', 'ai_edge_litert', 'boto3'} & set(sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{check}"], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
