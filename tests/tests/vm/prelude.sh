# What the scripts of the cases share. A run of the agent is called by a name: its files in the share and its place in
# the bucket begin with it.

export AWS_EC2_METADATA_DISABLED=true
lime=modules/$release/x86_64/lime.ko
cat /proc/iomem >iomem

# until_there FILE: waits for a file.
until_there() {
	tries=0
	while [ ! -e "$1" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 300 ] || { echo "no $1"; exit 9; }
		usleep 100000
	done
}

# plant: pages of known content, 4 MiB from one to the next, and where they are. The kernel must not tidy up its memory
# meanwhile: that moves even locked pages.
plant() {
	echo 0 >/proc/sys/vm/compaction_proactiveness
	echo 0 >/proc/sys/vm/compact_unevictable_allowed
	guest plant "$pages" 1024 /host/planted &
	echo -1000 >/proc/$!/oom_score_adj
	until_there planted
}

# collect NAME ARGUMENTS: one run to its end, of the artifacts in `include`.
include=accounts,memory,symbols
collect() {
	name=$1
	shift
	code=0
	exhibit-agent collect --quiet --include "$include" --to "s3://$bucket/$name" --endpoint-url "$endpoint" \
		--region us-east-1 "$@" >"$name.receipt" 2>"$name.err" || code=$?
	echo "$code" >"$name.code"
	lsmod | grep -q '^lime ' && echo "lime is loaded after $name" >>leftovers
	return 0
}

# still_planted: what was planted is there, at the end.
still_planted() {
	[ -e planted ] || return 0
	grep -q moved planted && { echo 'a planted page has moved'; exit 9; }
	pidof guest >/dev/null || { echo 'what was planted is gone'; dmesg | tail -30; exit 9; }
}

# The options that lead to the good modules.
modules="--lime-modules /host/modules --lime-key /host/key.pem"

# processes FILE: pid and name of each.
processes() {
	for folder in /proc/[0-9]*; do
		read -r name <"$folder/comm" && echo "${folder#/proc/} $name"
	done >"$1" 2>/dev/null
}
