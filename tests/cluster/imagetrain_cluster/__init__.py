"""A real Kubernetes cluster on one Linux machine, in network namespaces of its own: for tests, benchmarks and people.

`cluster.Cluster` is the entry; `python -m imagetrain_cluster` the command. Needs root. Nothing listens outside loopback
in the machine's own network namespace, and a cluster ends exactly what it started.

Layers, each importing only what stands before it: errors, tools, wait, processes, record, network, certificates,
kubeconfig, workspace, images, control_plane, node, add_ons, cluster. `relay` and `node_init` are programs of their own.
"""
