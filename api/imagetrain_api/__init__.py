"""The contract of an `ImageTrainingJob`, shared by trainer, operator and client; standard library only."""
