"""The training side: object storage, data sets, models, the training loop, publishing, and the worker."""
