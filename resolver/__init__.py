"""node-resolver: a caching DNS resolver for Kubernetes nodes, pods and laptops."""

VERSION = "0.1.0"
