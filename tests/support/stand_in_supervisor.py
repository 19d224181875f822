"""The worker with a training process that trains nothing (see stand_in_training.py)."""

from imagetrain_trainer.worker import main, training_process

if __name__ == "__main__":
    training_process.MODULE = "stand_in_training"
    main.main()
