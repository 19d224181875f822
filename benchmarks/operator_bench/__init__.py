"""Parts of benchmarks/operator_scale.py: what many jobs cost, with a real control plane and pods that only pretend."""
