"""How a worker reads its data set, from the job's `spec.data`: the order of samples, the cache, how far ahead."""

import pathlib

from imagetrain_api import data_settings, job, progress
from imagetrain_trainer import errors
from imagetrain_trainer.data import class_weights, reader, sampler

_CACHE_FOLDER = "data-cache"


def build_options(settings: data_settings.DataSettings, work_dir: pathlib.Path) -> reader.ReaderOptions:
    """Return the reader's options.

    Args:
        settings: `spec.data`.
        work_dir: of the worker; the cache lies there unless the job names a folder.
    """
    if settings.cache is None:
        return reader.ReaderOptions(tune=settings.tune_reads)
    folder = pathlib.Path(settings.cache.path) if settings.cache.path else work_dir / _CACHE_FOLDER
    cache = reader.CacheOptions(folder=folder, max_bytes=settings.cache.size_bytes)
    return reader.ReaderOptions(cache=cache, tune=settings.tune_reads)


def build_sampler(records: reader.DatasetReader, spec: job.JobSpec) -> sampler.Sampler:
    """Return the order of the training split.

    Raises:
        ConfigError: `spec.data.sampling` names a class that the data set does not have.
    """
    return sampler.Sampler(
        records.layout,
        spec.training.global_batch_size,
        seed=spec.training.seed,
        weights=_build_weights(records, spec.data.sampling),
    )


def describe(counters: reader.ReadCounters) -> progress.StorageReads:
    """Return what a reader did, as the progress tells it."""
    requests, cache = counters.requests, counters.cache
    return progress.StorageReads(
        requests=requests.requests,
        hedges=requests.hedges,
        retries=requests.retries,
        throttled=requests.throttled,
        read_bytes=requests.bytes,
        cache_hits=cache.hits if cache else 0,
        cache_misses=cache.misses if cache else 0,
        cache_hit_bytes=cache.hit_bytes if cache else 0,
    )


def _build_weights(
    records: reader.DatasetReader, sampling: data_settings.SamplingSettings
) -> class_weights.ClassWeights | None:
    names = records.dataset.class_names
    if sampling.balance == "none":
        return None
    if sampling.balance == "classes":
        return class_weights.ClassWeights.balanced(records.labels, len(names))
    if unknown := sorted(set(sampling.class_weights) - set(names)):
        raise errors.ConfigError(
            f"spec.data.sampling.classWeights must name classes of the data set, got {unknown[0]!r}. "
            f"It has {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}."
        )
    return class_weights.ClassWeights.of_images(
        records.labels, [sampling.class_weights.get(name, 1.0) for name in names]
    )
