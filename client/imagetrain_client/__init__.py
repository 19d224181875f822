"""The command `imagetrain`: manifests, local runs, what they show, and published models. It builds on the trainer."""
