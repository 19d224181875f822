"""The worker's supervisor: process 1 of a pod. It never imports TensorFlow."""
