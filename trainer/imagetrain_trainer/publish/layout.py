"""Names of the files that a run publishes. Readers take paths from the manifest; the names tell which file is which."""

from imagetrain_api import job, names

PUBLISHED_PREFIX = "published"  # runs/<run_id>/published/<digest of the whole set>/...

SAVED_MODEL = "saved_model"
TFLITE_FLOAT32 = "tflite_float32"
TFLITE_DYNAMIC = "tflite_dynamic"
TFLITE_FLOAT16 = "tflite_float16"
TFLITE_INT8 = "tflite_int8"

MODEL_PATHS = {
    SAVED_MODEL: "saved_model",
    TFLITE_FLOAT32: "model_float32.tflite",
    TFLITE_DYNAMIC: "model_dynamic.tflite",
    TFLITE_FLOAT16: "model_float16.tflite",
    TFLITE_INT8: "model_int8.tflite",
}
if set(MODEL_PATHS) != set(job.FORMATS):
    raise ImportError("MODEL_PATHS must name every format of imagetrain_api.job.FORMATS")

LABELS = "labels.txt"
CARD = "model_card.md"
REPORT = names.REPORT_KEY
HISTORY = names.HISTORY_KEY
COMMON_FILES = (LABELS, CARD, REPORT, HISTORY)
