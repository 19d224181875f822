"""The training loop of one worker: steps, validation, checkpoints, and the group's joint decisions."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imagetrain_api import job
from imagetrain_trainer import errors
from imagetrain_trainer.training import (
    evaluation,
    execution,
    initial_values,
    inputs,
    joint_values,
    optimizers,
    policies,
    reading,
    run_saves,
    run_state,
    schedule,
    state,
    step_plan,
    surroundings,
)

logger = logging.getLogger(__name__)

EXECUTION_SECONDS = 1.0  # an execution is cut to about this, so that signals and the clock are seen in time
_NON_FINITE_ADVICE = (
    "Lower training.optimizer.learningRate, add training.schedule.warmupEpochs, or check the images of that epoch."
)


class TrainingLoop:
    """Trains one model from the newest checkpoint to the end."""

    def __init__(
        self,
        group: surroundings.Group,
        spec: job.JobSpec,
        build_model: Callable[[], keras.Model],
        around: surroundings.Surroundings,
    ) -> None:
        self._group = group
        self._spec = spec
        self._around = around
        self._sampler = reading.build_sampler(around.train, spec)
        self._steps_per_epoch = self._sampler.steps_per_epoch
        self._plan = around.plan
        inputs.check_batches(around.train.records, self._steps_per_epoch, group.strategy.num_replicas_in_sync)
        self._total_steps = self._steps_per_epoch * spec.training.epochs
        classes = len(around.train.dataset.class_names)
        with group.strategy.scope():
            self.model = build_model()
            self._rate = schedule.LearningRate(
                spec.training.optimizer,
                spec.training.schedule,
                steps_per_epoch=self._steps_per_epoch,
                total_steps=self._total_steps,
            )
            optimizer = optimizers.build_optimizer(spec.training.optimizer, self._rate)
        self._iterations = optimizer.iterations
        self._execution = execution.TrainingExecution(
            group.strategy,
            self.model,
            optimizer,
            spec.training,
            classes=classes,
            local_replicas=len(group.replicas),
        )
        self._evaluation = evaluation.Evaluation(group.strategy, self.model, spec, classes)
        self._variables = state.named_variables(self.model, optimizer)
        self._saves = run_saves.RunSaves(
            group.strategy,
            group.workers,
            around.places,
            self._variables,
            spec.checkpoint,
            around.report,
            around.event_log,
        )
        self._next_steps = 1  # the first execution compiles the graph
        self.state = run_state.RunState()
        self.timed_images = 0
        self.timed_seconds = 0.0

    def run(self) -> None:
        """Train to the last epoch or to an early stop, and save.

        Raises:
            PreemptedError: a worker was asked to stop; the state is saved.
            NonFiniteLossError: names the first bad step.
            PeerLostError: another worker went away.
            DataCorruptError, StorageError: the data or the storage failed.
        """
        self._restore()
        with self._training_input() as (batches, iterator):
            try:
                self._run_steps(iterator)
            except tf.errors.OpError as error:
                raise explain(batches.explain(error)) from error
            finally:
                self._saves.close()
        if self._around.event_log is not None:
            self._around.event_log.close()

    def _run_steps(self, iterator: tf.data.Iterator) -> None:
        if self._is_validation_due():
            self._finish_epoch()
        while self.state.step < self._total_steps and not self.state.decided.should_stop:
            decided = self._leave_out() or self._run_execution(iterator)
            if decided.stop:
                self._save(is_last=True, is_stopped=True)
                raise errors.PreemptedError(f"Stopped at step {self.state.step}; the checkpoint is saved.")
            is_best = self._finish_epoch() if self._is_validation_due() else False
            if decided.save == execution.SAVE or is_best:
                self._save()
            elif decided.save == execution.COPY:
                self._copy()
        self._save(is_last=True)

    @contextlib.contextmanager
    def _training_input(self) -> Iterator[tuple[inputs.TrainingInput, tf.data.Iterator]]:
        strategy = self._group.strategy
        with inputs.TrainingInput(
            self._around.train,
            self._spec,
            first_step=self.state.step,
            total_steps=self._total_steps,
            replicas=self._group.replicas,
            world_size=strategy.num_replicas_in_sync,
            left_out=frozenset(step - 1 for step in self._plan.left_out),
            waiting=lambda: self._around.report.waiting("input"),
        ) as batches:
            yield batches, inputs.distribute(strategy, batches.dataset)

    def _run_execution(self, iterator: tf.data.Iterator) -> execution.Signals:
        """Run some steps and return what the group decided."""
        to_epoch_end = self._steps_per_epoch - self.state.step % self._steps_per_epoch
        steps = min(self._next_steps, to_epoch_end, self._saves.longest_execution(self.state.step) or to_epoch_end)
        first = self.state.step + 1
        steps = self._plan.most_together(first, steps)
        if self._plan.is_careful(first):
            self._tell_records(first)
        is_first = self._execution_count == 0
        self._execution_count += 1
        started_at = time.monotonic()
        self._around.report.enter_step(first, self.state.step + steps)
        result = self._execution.run(iterator, steps, self._signals(steps))
        seconds = time.monotonic() - started_at
        self._check_finite(result)
        self._advance(result, steps, seconds)
        self._next_steps = max(1, result.signals.next_steps)
        self._report_steps(result, steps, seconds, is_first=is_first)
        self._saves.look()
        return result.signals

    def _leave_out(self) -> execution.Signals | None:
        """Pass over the next step where it is left out; order and learning rate go on as if it had been made."""
        step = self.state.step + 1
        if step not in self._plan.left_out:
            return None
        logger.warning("step %d is left out, for the group crashed at it; its images are not trained on", step)
        self._iterations.assign_add(1)
        self.state = dataclasses.replace(self.state, step=step, skipped_steps=(*self.state.skipped_steps, step))
        self._around.report.publish(
            step=step, epoch=step // self._steps_per_epoch, skipped_steps=self.state.skipped_steps
        )
        return execution.Signals()

    def _tell_records(self, step: int) -> None:
        """Log which images a step trains on: the process may not live to tell more."""
        world_size = self._group.strategy.num_replicas_in_sync
        parts = [self._sampler.worker_records(step - 1, replica, world_size) for replica in self._group.replicas]
        records = ", ".join(str(record) for record in np.concatenate(parts))
        logger.info("step %d trains alone, on these records of the training split: %s", step, records)

    _execution_count = 0
    _step_seconds = EXECUTION_SECONDS

    def _signals(self, steps: int) -> execution.Signals:
        is_chief = self._group.is_chief
        fitting = max(1, int(EXECUTION_SECONDS / self._step_seconds))
        return execution.Signals(
            stop=int(self._around.is_stopping()),
            save=self._choose_save(self.state.step + steps) if is_chief else 0,
            next_steps=min(fitting, self._execution.most_steps) if is_chief else 0,
        )

    def _choose_save(self, step: int) -> int:
        if self._saves.is_due(step):
            return execution.SAVE
        return execution.COPY if self._saves.is_copy_due() else 0

    def _check_finite(self, result: execution.ExecutionResult) -> None:
        bad = np.flatnonzero(~np.isfinite(result.losses))
        if len(bad):
            first = self.state.step + int(bad[0])
            raise errors.NonFiniteLossError(
                f"The training loss became {result.losses[bad[0]]} at step {first} (epoch "
                f"{first // self._steps_per_epoch + 1}, steps {self.state.step} to "
                f"{self.state.step + len(result.losses) - 1} ran together). {_NON_FINITE_ADVICE}"
            )

    def _advance(self, result: execution.ExecutionResult, steps: int, seconds: float) -> None:
        epoch = self.state.epoch
        self.state = dataclasses.replace(
            self.state,
            step=self.state.step + steps,
            epoch=dataclasses.replace(
                epoch,
                loss_sum=epoch.loss_sum + result.loss_sum,
                correct=epoch.correct + result.correct,
                images=epoch.images + result.images,
                seconds=epoch.seconds + seconds,
                stall_seconds=epoch.stall_seconds + result.stall_seconds,
            ),
        )

    def _report_steps(self, result: execution.ExecutionResult, steps: int, seconds: float, *, is_first: bool) -> None:
        fields = {
            "step": self.state.step,
            "epoch": self.state.step // self._steps_per_epoch,
            "loss": self.state.epoch.loss,
            "accuracy": self.state.epoch.accuracy,
            "learning_rate": float(self._rate(tf.constant(self.state.step - 1))),
            "storage": reading.describe(self._around.train.counters),
        }
        if is_first:  # its time is the compiler's
            self._around.report.publish(images=result.images, **fields)
            return
        self._step_seconds = seconds / steps
        self.timed_images += result.images
        self.timed_seconds += seconds
        self._around.report.record_steps(steps, result.images, seconds, result.stall_seconds, **fields)

    def _is_validation_due(self) -> bool:
        return len(self.state.history) < self.state.step // self._steps_per_epoch

    def _finish_epoch(self) -> bool:
        """Validate, record the epoch, let the policies decide; return whether it is the best so far."""
        report, spec = self._around.report, self._spec
        report.enter("evaluating", "validation split")
        self._settle_statistics()
        result = self._evaluation.run(self._around.validation, self._group.replicas, report.publish)
        if not np.isfinite(result.loss):
            raise errors.NonFiniteLossError(
                f"The validation loss became {result.loss} after step {self.state.step} (epoch "
                f"{len(self.state.history) + 1}), though every training loss was finite: the last update overflowed "
                f"the weights. {_NON_FINITE_ADVICE}"
            )
        epoch = self.state.epoch
        record = {
            "epoch": len(self.state.history) + 1,
            "step": self.state.step,
            "loss": epoch.loss,
            "accuracy": epoch.accuracy,
            "validation_loss": result.loss,
            "validation_accuracy": result.accuracy,
            "learning_rate": float(self._rate(tf.constant(self.state.step - 1))),
            "seconds": round(epoch.seconds, 3),
            "images_per_second": round(epoch.images / epoch.seconds, 1) if epoch.seconds else 0.0,
            "input_stall_seconds": round(epoch.stall_seconds, 3),
        }
        decided = policies.advance(
            self.state.decided,
            spec.training,
            step=self.state.step,
            validation_loss=result.loss,
            validation_accuracy=result.accuracy,
        )
        is_best = decided.best_step == self.state.step
        self.state = dataclasses.replace(
            self.state,
            decided=decided,
            epoch=run_state.EpochFigures(),
            history=(*self.state.history, record),
            confusion=tuple(tuple(int(count) for count in row) for row in result.confusion),
        )
        self._rate.factor.assign(decided.factor)
        self._tell_epoch(record)
        report.enter("training")
        return is_best

    def _tell_epoch(self, record: dict[str, Any]) -> None:
        self._around.report.publish(
            epoch=record["epoch"],
            validation_loss=record["validation_loss"],
            validation_accuracy=record["validation_accuracy"],
        )
        logger.info(
            "epoch %d/%d step %d: loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f, %.0f images/s",
            record["epoch"],
            self._spec.training.epochs,
            record["step"],
            record["loss"],
            record["accuracy"],
            record["validation_loss"],
            record["validation_accuracy"],
            record["images_per_second"],
        )
        if self._around.event_log is not None:
            figures = {key: value for key, value in record.items() if key not in ("epoch", "step")}
            self._around.event_log.write(self.state.step, figures)

    def _settle_statistics(self) -> None:
        if self._spec.training.batch_normalization == "local":
            state.average_statistics(self._group.strategy, self.model)

    def _copy(self) -> None:
        report = self._around.report
        report.enter("checkpointing")
        self._settle_statistics()
        self._saves.copy(dataclasses.replace(self.state, timeline=report.timeline(is_stopped=False)))
        report.enter("training")

    def _save(self, *, is_last: bool = False, is_stopped: bool = False) -> None:
        """Begin to save a checkpoint; every worker calls it at the same step. The last one is complete on return."""
        report = self._around.report
        report.enter("checkpointing")
        if self._saves.saved_step != self.state.step:
            self._settle_statistics()
            self._saves.save(dataclasses.replace(self.state, timeline=report.timeline(is_stopped=is_stopped)))
        if is_last:
            self._saves.finish()  # what is left to do is no step, and no step's time is set for it
        else:
            report.enter("training")

    def _restore(self) -> None:
        report = self._around.report
        report.publish(total_epochs=self._spec.training.epochs, total_steps=self._total_steps)
        self.state = self._saves.restore().with_workers(self._group.workers)
        if self.state.step == 0:
            initial_values.share(self._group.strategy, self._group.rank, self._group.workers, self._variables)
        self._settle_plan()
        report.resume_timeline(self.state.timeline)
        self._rate.factor.assign(self.state.decided.factor)
        report.publish(
            step=self.state.step,
            epoch=self.state.step // self._steps_per_epoch,
            generation=self.state.generation,
            checkpoint_step=self._saves.saved_step,
            skipped_steps=self.state.skipped_steps,
        )
        report.enter("training", "compiling the first step")

    def _settle_plan(self) -> None:
        if self._around.run_store is None or not self._spec.recovery.skip_poison_batches:
            return
        members = self._group

        def exchange(values: Sequence[int]) -> list[list[int]]:
            with self._around.report.waiting("peers"):
                return joint_values.exchange(members.strategy, members.rank, members.workers, values)

        self._plan = step_plan.settle(self._plan, self._around.run_store, exchange, is_chief=members.is_chief)

    def load_best(self) -> int:
        """Give the model the best epoch's weights where the job asks for them; return the step they are from."""
        best, stopping = self.state.decided.best_step, self._spec.training.early_stopping
        if stopping is None or not stopping.restore_best_weights or best is None or best == self.state.step:
            return self.state.step
        checkpoint = self._around.places.saved.load(best)
        variables = {name: variable for name, variable in self._variables.items() if name.startswith("model/")}
        arrays = {name: array for name, array in checkpoint.arrays.items() if name.startswith("model/")}
        state.write_variables(variables, arrays)
        return best


def explain(error: Exception) -> Exception:
    """Return the trainer's own error behind a failed collective; any other error as it is."""
    peer_errors = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    is_peer = isinstance(error, peer_errors) or (
        isinstance(error, tf.errors.OpError)
        and any(word in error.message for word in ("Collective", "RecvBuf", "peer"))
    )
    if not is_peer:
        return error
    detail = getattr(error, "message", str(error)).splitlines()[0][:300]
    return errors.PeerLostError(f"Another worker of the group was lost: {detail}")
