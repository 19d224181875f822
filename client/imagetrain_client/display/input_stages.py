"""What `imagetrain data bench` measured: as a table with words, and as a JSON document."""

from typing import TYPE_CHECKING, Any

from imagetrain_client.display import wording

if TYPE_CHECKING:
    from imagetrain_trainer.data import bench, bench_verdict, dataset

_LIMITS = {
    "storage": "the storage",
    "cores": "{cores} processor cores",
    "python": "the one thread at a time that runs Python",
    "copy": "copying to the accelerator",
}


class Report:
    """What was measured, for people and for programs."""

    def __init__(
        self,
        uri: str,
        split: "dataset.Split",
        stages: "list[bench.Stage]",
        whole: "bench.Stage | None",
        verdict: "bench_verdict.Verdict",
        cores: int,
    ) -> None:
        self._uri, self._split, self._stages, self._whole, self._verdict = uri, split, stages, whole, verdict
        self._cores = cores
        bounding = [stage for stage in stages if not stage.name.startswith(("cache", "copy"))]
        self._cpu_seconds = sum(stage.cpu_seconds_per_image for stage in bounding)

    def _share(self, stage: "bench.Stage") -> float | None:
        """Return a stage's share of the processor time of an image; the cache and the accelerator have none in it."""
        if stage.name.startswith(("cache", "copy")):
            return None
        return stage.cpu_seconds_per_image / max(self._cpu_seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        """Return the document of --json."""
        stages = [*self._stages, *([self._whole] if self._whole else [])]
        return {
            "uri": self._uri,
            "records": self._split.records,
            "sizeBytes": self._split.size_bytes,
            "cores": self._cores,
            "stages": [
                {
                    "name": stage.name,
                    "imagesPerSecond": stage.images_per_second,
                    "megabytesPerSecond": stage.megabytes_per_second,
                    "megabytesPerCpuSecond": stage.megabytes_per_cpu_second,
                    "cpuMillisecondsPerImage": 1e3 * stage.cpu_seconds_per_image,
                    "cpuShare": None if stage is self._whole else self._share(stage),
                }
                for stage in stages
            ],
            "limits": [
                {"name": limit.name, "stage": limit.stage, "imagesPerSecond": limit.images_per_second}
                for limit in self._verdict.limits
            ],
            "advice": list(self._verdict.advice),
        }

    def lines(self) -> list[str]:
        """Return the table and the verdict."""
        mean = self._split.size_bytes / max(1, self._split.records)
        lines = [
            f"{self._uri}: {self._split.records:,} images, {wording.size(round(mean))} on average",
            f"{'stage':<12}{'images/s':>10}{'MB/s':>9}{'MB per CPU-s':>14}{'CPU ms/image':>14}{'share of CPU':>14}",
        ]
        lines += [self._line(stage) for stage in self._stages]
        if self._whole is not None:
            lines.append(self._line(self._whole))
        lines += ["", *self._words()]
        return lines

    def _line(self, stage: "bench.Stage") -> str:
        share = None if stage is self._whole else self._share(stage)
        return (
            f"{stage.name:<12}{stage.images_per_second:>10,.0f}{stage.megabytes_per_second:>9,.0f}"
            f"{stage.megabytes_per_cpu_second:>14,.0f}{1e3 * stage.cpu_seconds_per_image:>14.3f}"
            f"{'' if share is None else f'{100 * share:.0f}%':>14}"
        )

    def _words(self) -> list[str]:
        def say(name: str) -> str:
            return _LIMITS[name].format(cores=self._cores)

        bound, *others = self._verdict.limits
        lines = [f"{bound.stage} bounds: {say(bound.name)} would give {bound.images_per_second:,.0f} images/s."]
        lines += [f"{say(other.name)} would give {other.images_per_second:,.0f}." for other in others]
        if self._whole is not None:
            share = wording.percent(self._whole.images_per_second / bound.images_per_second)
            lines.append(f"all together gave {self._whole.images_per_second:,.0f}, {share} of the tightest of these.")
        return [line[0].upper() + line[1:] for line in lines] + [f"- {advice}" for advice in self._verdict.advice]
