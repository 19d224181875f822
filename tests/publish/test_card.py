import dataclasses

from imagetrain_trainer.publish import card
from publish_cases import build_draft, build_variant

ENVIRONMENT = {"processor": "AMD EPYC", "cores available": "2"}


def build(**changes):
    return card.build_card(build_draft(**changes), ENVIRONMENT)


def test_a_card_tells_of_data_training_results_limits_and_use():
    text = build()
    for heading in ("# tiny", "## Data", "## Training", "## Results", "## Intended use and limits", "## How to run it"):
        assert f"{heading}\n" in text
    assert "`s3://datasets/tiny/`" in text
    assert "90 train, 30 test" in text
    assert "AMD EPYC, 2 cores" in text
    assert "licen" not in text.lower()


def test_a_refusal_stands_in_the_card_and_its_model_is_not_explained():
    refused = build_variant("tflite_int8", "model_int8.tflite", is_published=False, refusal="accuracy drop is 0.1.")
    text = build(variants=(build_variant("saved_model", "saved_model"), refused))
    assert "| refused |" in text
    assert "- `tflite_int8`: accuracy drop is 0.1." in text
    assert 'Interpreter("model_int8.tflite")' not in text


def test_each_published_format_is_loaded_in_three_lines():
    variant = dataclasses.replace(build_variant("tflite_int8", "model_int8.tflite"), input_type="int8")
    blocks = build(variants=(build_variant("saved_model", "saved_model"), variant)).split("```python\n")[1:]
    code = [block.split("\n```")[0].splitlines() for block in blocks]
    assert [len(lines) for lines in code] == [3, 3]
    for lines in code:
        compile("\n".join(lines), "card", "exec")
    assert "int8, pixel values 0 to 255, each less 128" in code[1][2]


def test_names_from_users_cannot_break_the_markdown():
    text = build(classes=("a|b", "<script>", "c\n# d"), job="tiny", training={"note": "x|y\n|z"})
    assert r"a\|b, \<script\>, c \# d" in text
    assert r"| note | x\|y \|z |" in text


def test_lists_are_lists_and_shapes_are_shapes():
    sizes = [{"from_step": 1, "workers": 4}, {"from_step": 121, "workers": 2}]
    text = build(training={"skipped_steps": [12, 40], "group_sizes": sizes, "model": {"inputShape": [28, 28, 1]}})
    plain = text.replace("\\", "")
    assert "| skipped_steps | 12; 40 |" in plain
    assert "| group_sizes | from_step 1, workers 4; from_step 121, workers 2 |" in plain
    assert "| model.inputShape | 28 x 28 x 1 |" in text


def test_many_classes_are_cut_and_the_weakest_is_named():
    classes = tuple(f"c{index}" for index in range(60))
    recall = [0.5 + index / 200 for index in range(60)]
    text = build(classes=classes, test={"samples": 600, "accuracy": 0.7, "recall": recall})
    assert "c49, and 10 more in labels.txt" in text
    assert "Weakest class: c0, of which 50.00 % are recognised." in text
