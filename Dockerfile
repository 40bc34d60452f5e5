# The image: node-resolver with its compiled lane, and the programs that set up a node. No compiler, no pip.
#
#   docker build -t node-resolver .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/node-resolver --push .
#
# Nothing here names an architecture: each platform compiles the lane on itself (buildx emulates those that the
# machine is not). Debian 12 with Python 3.11 and nftables 1.0.6 is what the tests run on.
ARG DEBIAN=bookworm

FROM debian:${DEBIAN}-slim AS build

# Debian's archive keeps one version of a package, with its security fixes: a pinned version is gone next month.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
# What exec probes run: in C, because it runs every few seconds.
COPY deploy/probe/probe.c ./
RUN gcc -O2 -Wall -Wextra -Werror -o /opt/probe probe.c

COPY deploy/image/constraints.txt ./
COPY pyproject.toml setup.py README.md LICENSE ./
COPY resolver ./resolver

# The constraints hold for what builds the wheel as well, which pip takes from the environment only.
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip wheel --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/resolver \
    && /opt/build/bin/pip --python /opt/resolver/bin/python install --no-index --find-links /wheels node-resolver
# A compiler that failed leaves a wheel without the lane and no error: that must not become an image.
RUN /opt/resolver/bin/resolver -version >/src/version && grep 'compiled lane' /src/version

FROM debian:${DEBIAN}-slim

# iptables brings both variants, iptables-nft and iptables-legacy; ca-certificates are for upstreams over TLS.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates iproute2 iptables nftables python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log/*

COPY --from=build /opt/probe /usr/local/bin/probe
COPY --from=build /opt/resolver /opt/resolver

# Every file is compiled already and the root may be read-only: Python has nothing to write.
ENV PATH=/opt/resolver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1

# The version is that of pyproject.toml, held by a test; the revision is for whoever builds: --build-arg REVISION=...
ARG REVISION=unknown
LABEL org.opencontainers.image.title="node-resolver" \
      org.opencontainers.image.description="A caching DNS resolver for Kubernetes nodes, pods and laptops" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"

# On a node it is root with NET_ADMIN and NET_BIND_SERVICE, or as a sidecar any user with nothing: the manifests say.
ENTRYPOINT ["resolver"]
