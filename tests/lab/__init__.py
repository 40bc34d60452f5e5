"""A node in network namespaces, with pods, kube-dns and kube-proxy, for drills that need root."""
