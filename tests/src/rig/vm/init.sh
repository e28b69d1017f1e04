#!/bin/busybox sh
# The first process of a test's guest: it sets up what a program expects of a Linux, runs the job, and powers off.
/bin/busybox --install -s /bin
export PATH=/opt:/bin HOME=/root TMPDIR=/tmp LC_ALL=C TZ=UTC
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t securityfs securityfs /sys/kernel/security
while read -r module; do insmod "/modules/$module" || echo "init: $module: not loaded"; done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 host /host || echo 'init: no share'
[ ! -e /dev/vda ] || mount -t ext4 /dev/vda /disk || echo 'init: no disk'
hostname guest
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
cd /host
sh /host/job.sh >/host/out 2>&1 </dev/null
echo $? >/host/code
sync
poweroff -f
