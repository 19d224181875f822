"""Architectures: a registry and one file for each built-in builder.

Importing this package registers the built-in architectures. Nothing here reads data, trains or exports.
"""

from imagetrain_trainer.models import mobilenet_v2, small_cnn

__all__ = ["mobilenet_v2", "small_cnn"]
