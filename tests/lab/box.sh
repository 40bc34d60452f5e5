# Puts a process into a container as Kubernetes would; runs as the first process of new mount and pid namespaces.
#
#     sh box.sh POD_DIR SHARED_DIR LOCK CGROUP CAPABILITIES COMMAND...
#
# The process is number 1, sees its own /proc, writes nowhere but in /run/pod (its own), /run/node-resolver (the
# node's hand-over directory) and /run/xtables.lock, and has only these capabilities, as root.
set -e
pod=$1 shared=$2 lock=$3 cgroup=$4 capabilities=$5
shift 5
[ -z "$cgroup" ] || echo 0 >"$cgroup/cgroup.procs"
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/pod /run/node-resolver
: >/run/xtables.lock
mount --bind "$pod" /run/pod
mount --bind "$shared" /run/node-resolver
mount --bind "$lock" /run/xtables.lock
mount -o remount,ro /run
while read -r _ at _; do
    case $at in
    /run/* | /proc | /proc/* | /dev | /dev/*) ;;
    *) mount -o remount,bind,ro "$at" 2>/dev/null || : ;;
    esac
done </proc/self/mounts
exec setpriv --bounding-set="-all,$capabilities" --inh-caps=-all --ambient-caps=-all --no-new-privs \
    --pdeathsig=KILL "$@"
