"""Publishing: from a trained model to measured, described and digested artifacts, and back to whoever reads them.

`publish` is the training loop's entry point; `catalog` and `predict` are the readers'. Nothing here trains.
"""
