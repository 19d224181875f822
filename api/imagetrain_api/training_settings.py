"""Settings of `spec.model` and `spec.training`: what is learned, and how."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from imagetrain_api.schema import Document, Rule, setting

MAX_SEED = 2**31 - 1  # tf.random.set_seed and Keras take a non-negative 32-bit signed integer
MONITORS = ("val_loss", "val_accuracy")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(Document):
    """`spec.model`: the network."""

    architecture: str = setting(
        doc="Name of a registered architecture, such as small_cnn or mobilenet_v2.",
        pattern=r"[a-z][a-z0-9_]*",
        pattern_rule="a registered name of lower-case letters, digits and underscores",
        max_length=63,
    )
    input_shape: tuple[int, ...] = setting(
        doc="Height and width in pixels, and channels (1 or 3), that the network takes.",
        min_items=3,
        max_items=3,
        minimum=1,
        maximum=4096,
    )
    module: str | None = setting(
        default=None,
        doc="Python module that registers the architecture, importable by every worker.",
        pattern=r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*",
        pattern_rule="a dotted Python module name",
        max_length=255,
    )
    options: Mapping[str, Any] = setting(
        default_factory=dict, doc="Options of the architecture, such as dropout or alpha."
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "input_shape",
            "end in 1 or 3 channels",
            lambda m: m.input_shape[2] in (1, 3),
            "size(self.inputShape) != 3 || self.inputShape[2] in [1, 3]",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings(Document):
    """`spec.training.optimizer`."""

    name: str = setting(default="adam", doc="Optimizer.", choices=("adam", "sgd"))
    learning_rate: float = setting(default=0.001, doc="Peak learning rate.", exclusive_minimum=0, maximum=100)
    weight_decay: float = setting(
        default=0.0, doc="Decoupled weight decay per step (AdamW, SGDW).", minimum=0, maximum=1
    )
    momentum: float = setting(default=0.0, doc="Momentum of sgd.", minimum=0, exclusive_maximum=1)
    nesterov: bool = setting(default=False, doc="Nesterov momentum of sgd.")
    beta1: float = setting(default=0.9, doc="First-moment decay of adam.", minimum=0, exclusive_maximum=1)
    beta2: float = setting(default=0.999, doc="Second-moment decay of adam.", minimum=0, exclusive_maximum=1)
    epsilon: float = setting(default=1e-7, doc="Denominator's floor of adam.", exclusive_minimum=0, maximum=1)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "momentum",
            "be left out with adam (it has beta1)",
            lambda o: o.name == "sgd" or o.momentum == 0,
            "self.name == 'sgd' || self.momentum == 0.0",
        ),
        Rule(
            "nesterov",
            "be left out unless optimizer.name is sgd and momentum > 0",
            lambda o: not o.nesterov or (o.name == "sgd" and o.momentum > 0),
            "!self.nesterov || (self.name == 'sgd' && self.momentum > 0.0)",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings(Document):
    """`spec.training.schedule`: the learning rate over the run."""

    name: str = setting(default="constant", doc="Shape after the warm-up.", choices=("constant", "cosine"))
    warmup_epochs: float = setting(
        default=0.0, doc="Epochs of linear rise from 0 to the learning rate.", minimum=0, maximum=10000
    )
    final_fraction: float = setting(
        default=0.0, doc="Where cosine ends, as a fraction of the learning rate.", minimum=0, maximum=1
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "final_fraction",
            "be left out unless schedule.name is cosine",
            lambda s: s.name == "cosine" or s.final_fraction == 0,
            "self.name == 'cosine' || self.finalFraction == 0.0",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlateauSettings(Document):
    """`spec.training.reduceLearningRateOnPlateau` (Keras' ReduceLROnPlateau)."""

    monitor: str = setting(default="val_loss", doc="Validation figure that must improve.", choices=MONITORS)
    factor: float = setting(
        default=0.5, doc="Multiplier of the learning rate.", exclusive_minimum=0, exclusive_maximum=1
    )
    patience_epochs: int = setting(default=3, doc="Epochs without improvement before a cut.", minimum=1, maximum=10000)
    min_delta: float = setting(
        default=0.0001, doc="Smallest change that counts as improvement.", minimum=0, maximum=1000
    )
    cooldown_epochs: int = setting(default=0, doc="Epochs after a cut that are not counted.", minimum=0, maximum=10000)
    minimum_learning_rate: float = setting(default=0.0, doc="Learning rate that is never cut.", minimum=0, maximum=100)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStoppingSettings(Document):
    """`spec.training.earlyStopping`."""

    monitor: str = setting(default="val_loss", doc="Validation figure that must improve.", choices=MONITORS)
    patience_epochs: int = setting(
        default=5, doc="Epochs without improvement before the end.", minimum=1, maximum=10000
    )
    min_delta: float = setting(default=0.0, doc="Smallest change that counts as improvement.", minimum=0, maximum=1000)
    restore_best_weights: bool = setting(default=True, doc="Publish the best epoch's weights, not the last one's.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CropSettings(Document):
    """`spec.training.augmentation.crop`: a random window of each image, resized to the input shape.

    The recipe of Szegedy et al., "Going deeper with convolutions", 2014, with its usual figures as defaults.
    """

    min_area: float = setting(
        default=0.08, doc="Smallest window, as a fraction of the image's area.", exclusive_minimum=0, maximum=1
    )
    max_area: float = setting(
        default=1.0, doc="Largest window, as a fraction of the image's area.", exclusive_minimum=0, maximum=1
    )
    min_aspect_ratio: float = setting(default=0.75, doc="Smallest width / height of a window.", minimum=0.1, maximum=10)
    max_aspect_ratio: float = setting(default=1.333, doc="Largest width / height of a window.", minimum=0.1, maximum=10)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "max_area",
            "be at least crop.minArea",
            lambda c: c.max_area >= c.min_area,
            "self.maxArea >= self.minArea",
        ),
        Rule(
            "max_aspect_ratio",
            "be at least crop.minAspectRatio",
            lambda c: c.max_aspect_ratio >= c.min_aspect_ratio,
            "self.maxAspectRatio >= self.minAspectRatio",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationSettings(Document):
    """`spec.training.augmentation`: random changes of training images, drawn anew each epoch."""

    flip: str = setting(
        default="none",
        doc="Axes along which half the images are mirrored.",
        choices=("none", "horizontal", "vertical", "both"),
    )
    shift: float = setting(default=0.0, doc="Largest shift, as a fraction of height and width.", minimum=0, maximum=0.5)
    rotation_degrees: float = setting(default=0.0, doc="Largest rotation either way.", minimum=0, maximum=180)
    zoom: float = setting(default=0.0, doc="Largest zoom in or out, as a fraction.", minimum=0, maximum=0.9)
    fill: str = setting(
        default="constant",
        doc="What lies outside the image: black, the edge pixel, or the mirrored image.",
        choices=("constant", "nearest", "reflect"),
    )
    crop: CropSettings | None = setting(
        default=None, doc="Trains on a random window of each image, resized to the input shape; {} takes the usual one."
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings(Document):
    """`spec.training`."""

    epochs: int = setting(default=10, doc="Passes over the training split.", minimum=1, maximum=100000)
    global_batch_size: int = setting(
        default=256, doc="Largest number of samples of one step over all workers.", minimum=1, maximum=1048576
    )
    precision: str = setting(
        default="float32", doc="Arithmetic of the layers; weights stay float32.", choices=("float32", "bfloat16")
    )
    seed: int = setting(default=0, doc="Seed of weights, order, augmentation and dropout.", minimum=0, maximum=MAX_SEED)
    optimizer: OptimizerSettings = setting(default_factory=OptimizerSettings, doc="Optimizer.")
    schedule: ScheduleSettings = setting(default_factory=ScheduleSettings, doc="Learning rate over the run.")
    reduce_learning_rate_on_plateau: PlateauSettings | None = setting(
        default=None, doc="Cuts the learning rate when validation stops improving."
    )
    early_stopping: EarlyStoppingSettings | None = setting(
        default=None, doc="Ends the run when validation stops improving."
    )
    label_smoothing: float = setting(
        default=0.0, doc="Probability spread over all classes.", minimum=0, exclusive_maximum=1
    )
    augmentation: AugmentationSettings = setting(default_factory=AugmentationSettings, doc="Random changes of images.")
    batch_normalization: str = setting(
        default="synchronized",
        doc="Statistics over the global batch (results independent of the worker count), or per worker (faster).",
        choices=("synchronized", "local"),
    )
    steps_per_execution: int = setting(
        default=10, doc="Most steps between two looks at signals, progress and the clock.", minimum=1, maximum=10000
    )
    deterministic: bool = setting(
        default=False, doc="Only operations with bit-equal results on GPUs (slower); CPUs are deterministic without."
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "schedule.warmup_epochs",
            "be less than training.epochs",
            lambda t: t.schedule.warmup_epochs < t.epochs,
            "self.schedule.warmupEpochs < double(self.epochs)",
        ),
    )
