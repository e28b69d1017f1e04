#!/bin/sh
# Verifies a collection with what a distribution has: coreutils, findutils, awk, sed, grep, zstd, GNU tar, and openssl
# when the collection is sealed.
#
#   verify.sh [-t tsa.pem] DIR [pubkey.pem]
#
# With a key that you trust, the collection must be sealed with it. The key beside a collection proves no more than that
# all parts fit together. With the certificates (PEM) of who issues those of an authority for time stamps, the seal must
# have a time stamp of that authority.
#
# It ends with 0 (complete), 3 (partial), 21 (interrupted), 20 (altered), 22 (not a collection), 2 (usage) or 1 (a fault
# of its own). docs/format.md is the specification, and says what this script can not see. Nothing is extracted: streams go
# through pipes, lists of members go to a temporary folder.
set -uf
LC_ALL=C
TZ=UTC
export LC_ALL TZ
unset CDPATH TAR_OPTIONS ZSTD_CLEVEL ZSTD_NBTHREADS GREP_OPTIONS POSIXLY_CORRECT
umask 077

max_text=67108864         # CHAIN and manifest, in bytes
max_segment=268435456     # a segment
max_sums=33554432         # SHA256SUMS
max_key=16384             # pubkey.pem
max_signature=72          # SHA256SUMS.sig
max_stamp=65536           # SHA256SUMS.tsr
max_under_way=4           # segments of a stream that may be on their way to the store
max_raw=70368744177664    # a stream before compression
max_ratio=25000           # raw bytes for a stored byte,
ratio_from=67108864       # counted from here on
max_list_blocks=2097152   # each temporary file: 1 GiB in blocks of 512 bytes

part='[A-Za-z0-9_][A-Za-z0-9._-]{0,63}'
place="$part/$part/$part"
hash='[0-9a-f]{64}'
number='(0|[1-9][0-9]{0,17})'
segment='(evidence/[0-9]{5}\.tar|memory/[0-9]{5}\.lime)\.zst'

die() {
	printf 'verify.sh: %s\n' "$2" >&2
	exit "$1"
}

# Notes a problem. Texts that come from the collection are made harmless here.
problem() {
	printf 'problem: %s: %s\n' "$1" "$2" | tr -c '\040-\176\n' '?' | cut -c1-300 >>"$work/problems"
}

listed() {
	grep -Fqx -e "$1" "$work/listed"
}

length() {
	wc -c <"$1" | tr -d ' '
}

sha256() {
	sha256sum | cut -c1-64
}

# Whether an object is a regular file of at most so many bytes.
readable() {
	if [ -L "$1" ] || [ ! -f "$1" ] || [ ! -r "$1" ]; then
		problem unreadable "$1 is not a regular file, or can not be read"
		return 1
	fi
	[ "$(length "$1")" -le "$2" ] && return
	problem unreadable "$1 is longer than $2 bytes"
	return 1
}

list() {
	find . ! -type d -print0 >"$work/names" || die 1 'the folder can not be listed whole'
	tr '\n\0' '?\n' <"$work/names" | sed 's|^\./||' | sort >"$work/listed"
	grep -Ex "$segment" "$work/listed" >"$work/segments"
	[ -s "$work/segments" ] || listed CHAIN || listed manifest.json ||
		die 22 'this is not a collection: it has neither segments nor CHAIN nor manifest.json'
}

# --- The manifest: its shape, then the values that the collection is compared with. ---

# Shape of the canonical text, with S for each string and N for each number.
shape() {
	sed -e 's/\\./_/g' -e 'y/<>/__/' -e 's/"\([^"]*\)"/<\1>/g' -e 's/<[^>]*>\([],}]\)/S\1/g' \
		-e 's/-\{0,1\}[0-9][0-9]*\([],}]\)/N\1/g' manifest.json
}

read_manifest() {
	readable manifest.json "$max_text" || return
	flat='{[^{}]*}'
	want="{<artifacts>:\\[[^]]*],<case>:{[^{}]*\\($flat\\)\\{0,1\\}},<chain>:{<head>:S,<records>:N,<sha256>:S},<clock>:{[^{}]*${flat}[^{}]*${flat}[^{}]*}"
	want="$want,<format_version>:N,<host>:$flat,<impact>:$flat,<inventory>:{<entries>:N,<members>:N,<sha256>:S}"
	want="$want,<objects>:\\[[^]]*],<reasons>:\\[[S,]*],<status>:S,<store>:$flat,<streams>:\\[[^]]*],<tool>:$flat}"
	if [ "$(tr -d '\040-\377' <manifest.json | wc -c)" -ne 0 ] || ! shape | grep -qx "$want"; then
		problem manifest 'manifest.json is not in canonical form'
		return
	fi
	grep -q ',"format_version":1,"host":{' manifest.json ||
		{ problem manifest 'manifest.json has another format version' && return; }
	m_prefix=$(value '.*,"prefix":"\([A-Za-z0-9._\/-]*\)",\("profile":"[a-z]*",\)\{0,1\}"reason":".*')
	m_chain=$(value '.*,"chain":{"head":"\([0-9a-f]*\)","records":\([0-9]*\),"sha256":"\([0-9a-f]*\)"},"clock":{.*' '\1 \2 \3')
	m_inventory=$(value '.*,"inventory":{"entries":\([0-9]*\),"members":\([0-9]*\),"sha256":"\([0-9a-f]*\)"},"objects":\[.*' '\1 \2 \3')
	status=$(value '.*],"status":"\([a-z]*\)","store":{.*')
	value '.*,"streams":\[\(.*\)],"tool":{.*' | sed 's/},{/}\
{/g' | sed -n 's/^{"bytes":\([0-9]*\),"raw_bytes":\([0-9]*\),"segments":\([0-9]*\),"stream":"\([a-z]*\)"}$/\4 \3 \1 \2/p' >"$work/streams"
	if ! printf '%s %s %s %s\n' "$m_prefix" "$m_chain" "$m_inventory" "$status" |
		grep -Eqx "$place $hash $number $hash $number $number $hash (complete|partial)" ||
		[ ! -s "$work/streams" ]; then
		problem manifest 'manifest.json lacks a value, or has one that can not be'
		return
	fi
	reasons=some
	! grep -q '"reasons":\[],"status":"' manifest.json || reasons=none
	case $status-$reasons in
	complete-some | partial-none) problem manifest "manifest.json is $status, with $reasons of its reasons" ;;
	*) sealed=yes ;;
	esac
}

value() {
	sed -n "s/$1/${2:-\\1}/p" manifest.json
}

mismatch() {
	[ "$2" = "$3" ] || problem mismatch "the manifest states $1 $2, found is $3"
}

# --- The chain: from CHAIN, or from the links inside the segments. ---

key_of() {
	case $1 in
	evidence) printf 'evidence/%05d.tar.zst' "$2" ;;
	memory) printf 'memory/%05d.lime.zst' "$2" ;;
	esac
}

chain_problem() {
	problem chain "$1"
	: >"$work/chain"
}

# Copies CHAIN to the temporary folder if each of its lines carries the hash of the line before.
read_chain() {
	readable CHAIN "$max_text" || return
	if [ "$(tr -d '\n\040-\176' <CHAIN | wc -c)" -ne 0 ] || [ "$(tail -c 1 CHAIN | od -An -tu1 | tr -d ' ')" != 10 ] ||
		! head -n 1 CHAIN | grep -Eqx "exhibit-chain 1 $place" ||
		[ "$(tail -n +2 CHAIN | grep -Evcx "$hash $segment $number $hash")" -ne 0 ]; then
		chain_problem 'CHAIN is not text of this format'
		return
	fi
	head -n 1 CHAIN >"$work/chain"
	head=$(sha256 <"$work/chain") n_evidence=0 n_memory=0
	tail -n +2 CHAIN >"$work/records"
	while IFS= read -r line; do
		expect "${line%% *}" "$head" 'does not carry the hash of the line before it' || return
		line_key=${line#* }
		line_key=${line_key%% *}
		case $line_key in
		evidence/*) expect "$line_key" "$(key_of evidence $n_evidence)" 'has another number than is due' || return
			n_evidence=$((n_evidence + 1)) ;;
		*) expect "$line_key" "$(key_of memory $n_memory)" 'has another number than is due' || return
			n_memory=$((n_memory + 1)) ;;
		esac
		printf '%s\n' "$line" >>"$work/chain"
		head=$(printf '%s\n' "$line" | sha256)
	done <"$work/records"
}

expect() {
	[ "$1" = "$2" ] && return
	chain_problem "the record of CHAIN with $1 $3"
	return 1
}

# Bytes of the link of the segment with this key, in this collection, after this head.
link() {
	text="exhibit-segment 1 $1/$2 $3"
	count=$((${#text} + 1))
	printf '\120\052\115\030'
	# shellcheck disable=SC2059 # the format is made of digits
	printf "$(printf '\\%03o\\%03o\\000\\000' $((count % 256)) $((count / 256)))"
	printf '%s\n' "$text"
}

has_link() {
	link "$2" "$1" "$3" >"$work/link"
	head -c "$(length "$work/link")" "$1" | cmp -s - "$work/link"
}

# Puts the segments in the order that their links give, and those that may stand beyond a gap in a list of their own.
chain_of_links() {
	: >"$work/links"
	while IFS= read -r key; do
		readable "$key" "$max_segment" || continue
		# shellcheck disable=SC2046 # one word each
		set -- $(head -c 8 "$key" | od -An -tu1)
		found=''
		case $* in
		*' '[012]' 0 0') found=$(tail -c +9 "$key" | head -c $(($5 + 256 * $6)) | tr -c '\041-\176' ' ') ;;
		esac
		if printf '%s\n' "${found% }" | grep -Eqx "exhibit-segment 1 $place/$key $hash"; then
			found=${found% }
			found=${found#exhibit-segment 1 }
			previous=${found##* }
			found=${found%" $previous"}
			prefix=${found%"/$key"}
			if has_link "$key" "$prefix" "$previous"; then
				printf '%s %s %s %s %s\n' "$previous" "$prefix" "$key" "$(length "$key")" "$(sha256 <"$key")" >>"$work/links"
				continue
			fi
		fi
		problem link "$key has no link that names its place"
	done <"$work/segments"
	[ -s "$work/links" ] || return
	prefix=$(head -n 1 "$work/links" | cut -d ' ' -f 2)
	printf 'exhibit-chain 1 %s\n' "$prefix" >"$work/chain"
	head=$(sha256 <"$work/chain") n_evidence=0 n_memory=0
	while next_link; do :; done
	may_lack=yes
	! listed CHAIN && ! listed manifest.json || may_lack=no
	awk -v prefix="$prefix" -v may_lack="$may_lack" -v most="$max_under_way" "$judge_left" \
		"$work/segments" "$work/chain" "$work/links" >"$work/left" || die 1 'awk failed'
	before=''
	while IFS=' ' read -r what line; do
		case $what in
		gap) printf '%s\n' "$line" >>"$work/gaps" ;;
		missing) problem missing "$line is missing" ;;
		after) expect_after "$before" "$line" ;;
		link) problem link "$line does not continue the segment before it" ;;
		esac
		case $what in
		beyond | after) printf '%s\n' "$line" >>"$work/beyond" && before=$line ;;
		esac
	done <"$work/left"
}

# Neighbours beyond a gap still follow each other in the chain.
expect_after() {
	[ "${2%% *}" = "$(printf '%s\n' "$1" | sha256)" ] && return
	line_key=${2#* }
	problem link "${line_key%% *} does not continue the segment before it"
}

# shellcheck disable=SC2016 # awk expands it
judge_left='
# Judges each segment that the chain does not reach. A run that was cut may lack some that were under way.
{ file = FILENAME == ARGV[1] ? 1 : FILENAME == ARGV[2] ? 2 : 3 }
file == 1 { split($1, part, "[/.]"); if (part[2] + 0 == gap[part[1]] + 0) gap[part[1]]++; next }
file == 2 { reached[$2]; next }
$3 in reached { next }
{
	split($3, part, "[/.]")
	stream = part[1]; number = part[2] + 0; missing = gap[stream] + 0
	key = sprintf("%s/%05d.%s.%s", stream, missing, part[3], part[4])
	if (may_lack == "no" || $2 != prefix || number < missing) { print "link", $3; next }
	if (number >= missing + most) { if (!wider[stream]++) print "missing", key; next }
	if (!(stream in last)) print "gap", key
	print (stream in last) && last[stream] == number - 1 ? "after" : "beyond", $1, $3, $4, $5
	last[stream] = number
}
'

next_link() {
	line=$(awk -v head="$head" -v prefix="$prefix" -v e="$(key_of evidence $n_evidence)" -v m="$(key_of memory $n_memory)" \
		'$1 == head && $2 == prefix && ($3 == e || $3 == m) { print $1, $3, $4, $5; exit }' "$work/links")
	case $line in
	*' evidence/'*) n_evidence=$((n_evidence + 1)) ;;
	*' memory/'*) n_memory=$((n_memory + 1)) ;;
	*) return 1 ;;
	esac
	printf '%s\n' "$line" >>"$work/chain"
	head=$(printf '%s\n' "$line" | sha256)
}

compare_chain() {
	stated=$(cut -d ' ' -f 1 "$work/streams" | tr '\n' ' ')
	found=$(cut -d / -f 1 "$work/records" | sed 's/.* //' | sort -u | tr '\n' ' ')
	mismatch streams "$stated" "$found"
	mismatch prefix "$m_prefix" "$prefix"
	mismatch 'chain head, records, hash' "$m_chain" "$head $(wc -l <"$work/records" | tr -d ' ') $(sha256 <"$work/chain")"
}

# --- Segments and streams. ---

check_segment() {
	if [ ! -e "$2" ] && [ ! -L "$2" ]; then
		problem missing "$2 is missing"
	elif readable "$2" "$max_segment"; then
		if [ "$(length "$2")" != "$3" ]; then
			problem length "$2 has another length than the chain states"
		elif [ "$(sha256 <"$2")" != "$4" ]; then
			problem hash "$2 has another SHA-256 than the chain states"
		elif ! has_link "$2" "$prefix" "$1"; then
			problem link "$2 does not continue the segment before it"
		elif [ "$(zstd -lv "$2" 2>/dev/null | tee "$work/frames" | grep -Ec '^(# Skippable Frames: 1|Decompressed Size: .*)$')" -ne 2 ]; then
			problem frame "$2 is not one link and then whole frames of a stated size"
		else
			declared=$(sed -n 's/^Decompressed Size: .*(\([0-9]*\) B)$/\1/p' "$work/frames")
			[ -n "$declared" ] || die 1 'zstd -lv does not state the size in bytes'
			# A sum of more digits is over the limit as it is, and could be over that of the shell.
			[ ${#declared} -le 14 ] || declared=$((max_raw + 1))
			raw=$((raw + declared))
			stored=$((stored + $3)) segments=$((segments + 1))
			printf '%s\n' "$2" >>"$work/keys"
			return
		fi
	fi
	broken=yes
}

# The raw bytes of the segments in the list, and no more than were promised.
raw_bytes() {
	while IFS= read -r key; do
		zstd -dcq --no-progress -M128MB <"$key" 2>/dev/null || printf '%s\n' "$key" >>"$work/damaged"
	done <"$work/keys" | head -c "$((raw + 1))"
}

check_stream() {
	raw=0 stored=0 segments=0 broken=no
	: >"$work/keys"
	[ -s "$work/$1" ] || [ "$sealed-$1" = yes-evidence ] || return 0
	while IFS= read -r line; do
		# shellcheck disable=SC2086 # four words
		check_segment $line
	done <"$work/$1"
	[ "$broken" = no ] || return 0
	if [ "$raw" -gt "$max_raw" ] || { [ "$raw" -gt "$ratio_from" ] && [ "$raw" -gt $((stored * max_ratio)) ]; }; then
		problem limit "$1: there are more raw bytes than the stored ones allow"
		return
	fi
	# shellcheck disable=SC2046 # four words
	set -- "$1" $(sed -n "s/^$1 //p" "$work/streams" | head -n 1)
	if [ "$sealed" = yes ] && [ $# -eq 4 ]; then
		mismatch 'segments, stored and raw bytes' "$2 $3 $4" "$segments $stored $raw"
		[ "$raw" -le "$4" ] || return 0
	fi
	read_stream "$1"
	[ ! -s "$work/damaged" ] || { problem frame "$(head -n 1 "$work/damaged") has a damaged frame" && return; }
	mismatch "raw bytes of $1" "$raw" "$(tr -d ' ' <"$work/count")"
	case $1 in
	evidence) check_tar ;;
	memory) check_memory ;;
	esac
}

# --- Memory: ranges in LiME's format, ascending, and whole unless the run or the manifest says otherwise. ---

check_memory() {
	may_be_cut=no
	[ "$sealed" = yes ] || may_be_cut=yes
	! grep -Eq '"name":"memory","outcome":"([abd-z]|ca[^p])' manifest.json 2>/dev/null || may_be_cut=yes
	raw_bytes | {
		at=0 next=0 ranges=0
		while header=$(head -c 32 | od -An -v -tx1 | tr -d ' \n') && [ -n "$header" ]; do
			check_range || break
		done
		cat >/dev/null
	}
}

check_range() {
	if [ ${#header} -ne 64 ]; then
		[ "$may_be_cut" = yes ] || problem lime "the stream ends within the LiME header at byte $at"
		return 1
	fi
	# The magic number, version 1, two addresses below 2^56, and eight bytes of zero.
	if ! printf '%s\n' "$header" | grep -Eqx '454d694c01000000([0-9a-f]{14}00){2}0{16}' || [ "$ranges" -eq 1048576 ]; then
		problem lime "there is no LiME header of this format at byte $at"
		return 1
	fi
	first=$((0x$(address 17))) last=$((0x$(address 33)))
	if [ "$first" -gt "$last" ] || [ "$first" -lt "$next" ]; then
		problem lime "the LiME range at byte $at does not lie behind the one before"
		return 1
	fi
	next=$((last + 1)) ranges=$((ranges + 1)) length=$((last - first + 1))
	at=$((at + 32 + length))
	if [ "$(head -c "$length" | wc -c)" -ne "$length" ]; then
		[ "$may_be_cut" = yes ] || problem lime 'the stream ends within a LiME range'
		return 1
	fi
}

# The address that starts at this digit of the header: eight bytes, the lowest first.
address() {
	printf '%s\n' "$header" | cut -c"$1-$(($1 + 15))" | sed 's/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/'
}

# Reads a stream once, for all that is wanted of it.
read_stream() {
	rm -f "$work/to_count" "$work/to_names"
	mkfifo "$work/to_count" "$work/to_names" || die 1 'no pipe can be made'
	: >"$work/damaged"
	wc -c <"$work/to_count" >"$work/count" &
	names "$1" <"$work/to_names" >"$work/names" 2>/dev/null &
	raw_bytes | tee "$work/to_count" "$work/to_names" | members "$1" >"$work/members" 2>"$work/tar.err"
	wait
}

names() {
	[ "$1" != evidence ] || tar -t --quoting-style=escape -f -
	cat >/dev/null
}

members() {
	[ "$1" != evidence ] || tar -tvvR --numeric-owner --full-time --quoting-style=escape -f -
	cat >/dev/null
}

# --- The tar: its members, in two readings, against each other and against the inventory. ---

check_tar() {
	before=$(wc -l <"$work/problems") whole=no
	[ "$raw" -eq 0 ] || check_end
	[ "$before" -eq "$(wc -l <"$work/problems")" ] || return
	: >"$work/inventory"
	EXHIBIT_WORK=$work
	export EXHIBIT_WORK
	# shellcheck disable=SC2016 # tar's shell expands it, once for each member
	raw_bytes | {
		tar -x -C "$work/empty" --to-command='case $TAR_FILENAME in
			inventory.jsonl | inventory/[0-9][0-9][0-9][0-9][0-9].jsonl) ;;
			*) exec sha256sum ;;
			esac
			[ "$TAR_SIZE" -gt 16777216 ] || tee -a "$EXHIBIT_WORK/inventory" | sha256sum
			echo "=$TAR_FILENAME" >>"$EXHIBIT_WORK/inventory"' -f -
		printf '%s\n' "$?" >"$work/tar.status"
		cat >/dev/null
	} >"$work/hashes" 2>/dev/null
	[ "$sealed-$(cat "$work/tar.status")" != yes-2 ] || problem tar 'tar can not read the content of each member'
	awk -v sealed="$sealed" -v whole="$whole" -v work="$work" -v blocks="$end_block" -v stated="${m_inventory:-}" "$check_members" \
		"$work/inventory" >"$work/found" || die 1 'awk failed'
	while IFS= read -r line; do
		problem "${line%% *}" "${line#* }"
	done <"$work/found"
	sort "$work/checked" | uniq -d | head -n 20 | while IFS= read -r name; do
		problem duplicate "member $name is in the tar twice"
	done
}

# Each member is a file or a link, and the archive ends where the stream ends.
check_end() {
	end=$(tail -n 1 "$work/members")
	end_block=${end#block }
	end_block=${end_block%%:*}
	case $end in
	"block "*": ** Block of NULs **")
		[ $(((end_block + 2) * 512)) -eq "$raw" ] || problem tar "the archive ends at block $end_block, the stream does not"
		whole=yes complaints='^$' ;;
	*)
		[ "$sealed" = no ] || problem tar 'the archive is cut'
		complaints='Unexpected EOF in archive$|Error is not recoverable: exiting now$' ;;
	esac
	! grep -Evq "$complaints" "$work/tar.err" || problem tar "tar complains: $(head -n 1 "$work/tar.err")"
	[ "$(grep -Ec '^block [0-9]+: ([-l]|\*\* (Block of NULs|End of File) \*\*$)' "$work/members")" -eq "$(wc -l <"$work/members")" ] ||
		problem tar 'a member is neither a file nor a symbolic link'
	[ "$(grep -Ec '^block [0-9]+: [-l]' "$work/members")" -eq "$(wc -l <"$work/names")" ] ||
		problem tar 'two readings of the archive differ'
	grep -Eq '^$|^/|(^|/)\.{0,2}/|/$|(^|/)\.{1,2}$' "$work/names" && problem tar 'a member has an unsafe name'
	awk -F / 'NF > 256 { exit 1 }' "$work/names" || problem tar 'a member has a name of too many parts'
}

# shellcheck disable=SC2016 # awk expands it
check_members='
# Reads the inventory. Each line with an offset stands for the next member of the listing.
BEGIN {
	for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
	for (i = 1; i < 256; i++) shown[i] = i < 32 || i > 126 ? sprintf("\\%03o", i) : sprintf("%c", i)
	shown[7] = "\\a"; shown[8] = "\\b"; shown[9] = "\\t"; shown[10] = "\\n"
	shown[11] = "\\v"; shown[12] = "\\f"; shown[13] = "\\r"; shown[92] = "\\\\"
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for (i = 0; i < 64; i++) sextet[substr(alphabet, i + 1, 1)] = i
	power[0] = 1
	for (i = 1; i < 8; i++) power[i] = 2 * power[i - 1]
	hex = "0123456789abcdef"
	string = "\"([^\"\\\\\001-\037]|\\\\[\"\\\\bfnrt]|\\\\u00[01][0-9a-f])*\""
	number = "(0|[1-9][0-9]*)"
	name = "(\"path\":" string "|\"path_b64\":\"[A-Za-z0-9+/]+=?=?\")"
	kind = "(file|symlink|directory|fifo|socket|block_device|char_device|unknown)"
	status = "(captured|metadata|truncated|shrank|vanished|denied|timed_out|failed|skipped)"
	metadata = "\\{\"mode\":" string ",\"uid\":" number ",\"gid\":" number ",\"size\":" number ",\"nlink\":" number
	metadata = metadata ",\"inode\":" number ",\"device\":" string ",\"atime\":" string ",\"mtime\":" string
	metadata = metadata ",\"ctime\":" string "(,\"btime\":" string ")?(,\"xattrs\":\\{(" string ":" string ",?)+\\})?\\}"
	split(stated, want, " ")
	hashes = work "/hashes"; members = work "/members"; names = work "/names"; checked = work "/checked"
	printf "" >checked
	block = 0
}
function complain(what, text) {
	if (++complaints <= 100) print what, text
}
# Takes one piece off the line.
function eat(pattern) {
	if (!match(rest, "^" pattern)) return 0
	piece = substr(rest, 1, RLENGTH)
	rest = substr(rest, RLENGTH + 1)
	return 1
}
function byte(value) {
	bytes++
	text = text shown[value]
	if (value >= 128) high = 1
}
# The name in `piece`, as tar shows it: `text`, and its length before that: `bytes`.
function decode(  i, c, at, sum, bits) {
	text = ""; bytes = 0; high = 0
	at = index(piece, ":") + 2
	if (piece ~ /^"path":/) {
		for (i = at; i < length(piece); i++) {
			c = substr(piece, i, 1)
			if (c != "\\") { byte(code[c]); continue }
			c = substr(piece, ++i, 1)
			if (c == "u") { byte(16 * substr(piece, i + 3, 1) + index(hex, substr(piece, i + 4, 1)) - 1); i += 4 }
			else if (c == "b") byte(8)
			else if (c == "t") byte(9)
			else if (c == "n") byte(10)
			else if (c == "f") byte(12)
			else if (c == "r") byte(13)
			else byte(code[c])
		}
		return 1
	}
	sum = bits = 0
	for (i = at; i < length(piece); i++) {
		c = substr(piece, i, 1)
		if (c == "=") break
		sum = sum * 64 + sextet[c]; bits += 6
		if (bits < 8) continue
		bits -= 8
		byte(int(sum / power[bits])); sum %= power[bits]
	}
	# A name that is ASCII has no need of base64.
	return sum == 0 && high && (length(piece) - at) % 4 == 0
}
# Reads the next member of the listing into `line`, `listed_name` and `sha256`.
function next_member() {
	if ((getline line <members) <= 0 || line ~ /^block [0-9]+: \*\*/) return 0
	if ((getline listed_name <names) <= 0) return 0
	sha256 = "none"
	start = substr(line, 7) + 0
	split(line, field, " ")
	size = field[5]
	if (substr(field[3], 1, 1) == "-" && (getline sha256 <hashes) > 0) sha256 = substr(sha256, 1, 64)
	seen++
	if (start != block) complain("tar", "there is more before member " listed_name " than its header")
	print listed_name >checked
	return 1
}
function headers(long) {
	return long > 100 ? 1 + int((long + 1 + 511) / 512) : 0
}
# Where the content starts, and with that where the next member does.
function content(long, long_target) {
	block = start + headers(long) + headers(long_target) + 1
	start = block
	block += int((size + 511) / 512)
	return start * 512
}
/^=/ {
	last_part = substr($0, 2)
	if (last_part != "inventory.jsonl" && last_part != sprintf("inventory/%05d.jsonl", parts++))
		complain("member", last_part " is not the part of the inventory that is due")
	next
}
{
	entries++
	if (length($0) > 1048576) { complain("inventory", "line " entries " is too long"); next }
	rest = $0; offset = ""; stated_size = ""; digest = ""; target = ""; type = ""; target_bytes = 0
	if (!eat("\\{") || !eat(name) || !decode()) { complain("inventory", "line " entries " has no name"); next }
	entry_name = text; entry_bytes = bytes
	ok = eat(",\"artifact\":" string) && eat(",\"type\":\"" kind "\"")
	type = substr(piece, 10, length(piece) - 10)
	ok = ok && eat(",\"status\":\"" status "\"")
	eat(",\"reason\":" string); eat(",\"errno\":" string)
	if (eat(",\"offset\":" number)) offset = substr(piece, 11)
	if (eat(",\"size\":" number)) stated_size = substr(piece, 9)
	if (eat(",\"sha256\":\"[0-9a-f]+\"")) digest = substr(piece, 12, length(piece) - 12)
	if (eat(",\"target\":\\{")) {
		ok = ok && eat(name) && decode()
		target = " -> " text; target_bytes = bytes
		ok = ok && eat("\\}")
	}
	eat(",\"short_at\":" number); eat(",\"grew_to\":" number); eat(",\"metadata\":" metadata)
	if (!ok || !eat(",\"read_at\":" string "\\}") || rest != "" || (digest != "" && length(digest) != 64)) {
		complain("inventory", "line " entries " is not in the form that the agent writes")
		next
	}
	if (offset == "") next
	if (!next_member()) { complain("inventory", "line " entries " names a member that is not in the tar"); next }
	why = ""
	link = substr(field[3], 1, 1) == "l"
	if (entry_bytes > 8192) why = "has a name that is too long"
	else if (listed_name != entry_name) why = "has another name in the inventory"
	else if (content(entry_bytes, target_bytes) != offset) why = "has another offset"
	else if (type != (link ? "symlink" : "file")) why = "has another type"
	else if (link && substr(line, length(line) - length(entry_name target) + 1) != entry_name target) why = "has another target"
	else if (!link && size != stated_size) why = "has another size"
	else if (!link && sha256 != digest) why = "has another SHA-256"
	if (why != "") complain("member", listed_name " " why)
}
END {
	ended = 0
	while (next_member()) {
		if (listed_name == "inventory.jsonl") {
			content(15, 0)
			if (sealed == "yes" && sha256 != want[3]) complain("mismatch", "the inventory has another SHA-256")
			ended = 1
		} else if (whole == "yes" || ended) complain("member", listed_name " is not listed")
		else if (line ~ /^block [0-9]+: -/) content(length_of(listed_name), 0)
		else exit
	}
	if (whole == "yes" && (!ended || listed_name != "inventory.jsonl" || last_part != "inventory.jsonl"))
		complain("member", "inventory.jsonl is not the last member")
	if (whole == "yes" && block != blocks) complain("tar", "there is more before the end than the members")
	if (sealed == "yes" && (entries + 0 != want[1] || seen + 0 != want[2]))
		complain("mismatch", "the manifest states another number of lines or members")
}
# Bytes of a name that tar shows.
function length_of(shown_name) {
	gsub(/\\([0-7][0-7][0-7]|.)/, "_", shown_name)
	return length(shown_name)
}
'

# --- The seal: SHA256SUMS, its signature, and the statement of who sealed. ---

check_seal() {
	if ! listed SHA256SUMS; then
		[ -z "$trusted$authority" ] || problem missing 'SHA256SUMS is missing: the collection is not sealed'
		return 0
	fi
	sealed_by=unknown
	readable SHA256SUMS "$max_sums" || return 0
	check_signature
	check_time_stamp
	cut -c67- SHA256SUMS >"$work/sums_keys"
	if [ "$(tr -d '\n\040-\176' <SHA256SUMS | wc -c)" -ne 0 ] || [ "$(tail -c 1 SHA256SUMS | od -An -tu1 | tr -d ' ')" != 10 ] ||
		[ "$(grep -Evcx "$hash  ($of_the_sums)" SHA256SUMS)" -ne 0 ] || ! sort -cu "$work/sums_keys" 2>/dev/null; then
		problem sums 'SHA256SUMS is not text of this format'
		return 0
	fi
	while IFS= read -r line; do
		present "${line#*  }" "$max_segment" && printf '%s\n' "$line"
	done <SHA256SUMS >"$work/sums"
	[ ! -s "$work/sums" ] || sha256sum -c --strict --quiet "$work/sums" 2>/dev/null >"$work/failed"
	while IFS= read -r key; do
		problem hash "${key%%: *} has another SHA-256 than SHA256SUMS states"
	done <"$work/failed"
	grep -Ex "$of_the_sums" "$work/listed" | comm -23 - "$work/sums_keys" |
		while IFS= read -r key; do problem unlisted "$key is not listed by SHA256SUMS"; done
	check_statement
}

# Whether an object is there, and a regular file of at most so many bytes.
present() {
	if [ ! -e "$1" ] && [ ! -L "$1" ]; then
		problem missing "$1 is missing"
		return 1
	fi
	readable "$1" "$2"
}

# The key in the form that it has one of, if it is of the curve P-256.
public_key() {
	openssl pkey -pubin -in "$1" -noout -text 2>/dev/null | grep -qx 'NIST CURVE: P-256' &&
		openssl pkey -pubin -in "$1" -outform DER 2>/dev/null
}

check_signature() {
	present SHA256SUMS.sig "$max_signature" && signature=yes || signature=no
	present pubkey.pem "$max_key" || return 0
	if ! public_key pubkey.pem >"$work/key"; then
		problem signature 'pubkey.pem is no public key of the curve P-256'
		return
	fi
	sealed_by=$(sha256 <"$work/key")
	[ -z "$trusted" ] || cmp -s "$work/key" "$work/trusted" ||
		problem key "the seal was made with the key $sealed_by, not with the one that is trusted"
	[ "$signature" = no ] ||
		openssl dgst -sha256 -verify pubkey.pem -signature SHA256SUMS.sig SHA256SUMS >/dev/null 2>&1 ||
		problem signature 'SHA256SUMS.sig was not made over SHA256SUMS by the key in pubkey.pem'
}

# What the time stamp is over, and with -t who signed it, as of the time that it states.
check_time_stamp() {
	if ! listed SHA256SUMS.tsr; then
		[ -z "$authority" ] || problem missing 'SHA256SUMS.tsr is missing: the seal has no time stamp'
		return
	fi
	readable SHA256SUMS.tsr "$max_stamp" || return
	whole=$(openssl asn1parse -inform DER -in SHA256SUMS.tsr 2>/dev/null |
		sed -n '1s/^ *0:d=0 *hl=\([0-9]*\) *l= *\([0-9]*\) cons: SEQUENCE *$/\1 \2/p' | awk '{ print $1 + $2 }')
	openssl ts -reply -in SHA256SUMS.tsr -text 2>/dev/null >"$work/stamp"
	# The authority's own words could look like another line: each has to be there once.
	grep -Eo '^(Status:|Hash Algorithm:|Message data:|Serial number:|Time stamp:)' "$work/stamp" | sort | uniq -c >"$work/lines"
	if [ "$whole" != "$(length SHA256SUMS.tsr)" ] || [ "$(grep -c '^ *1 ' "$work/lines")" -ne 5 ] ||
		[ "$(wc -l <"$work/lines")" -ne 5 ] || ! grep -Eqx 'Status: Granted( with modifications)?\.' "$work/stamp" ||
		! grep -qx 'Hash Algorithm: sha256' "$work/stamp"; then
		problem time-stamp 'SHA256SUMS.tsr is no time stamp by SHA-256 that was granted'
		return
	fi
	stamped=$(sed -n 's/^Time stamp: \([A-Za-z0-9:. ]*\)$/\1/p' "$work/stamp")
	imprint=$(sed -n '/^Message data:$/,/^Serial number:/s/^    [0-9a-f]* - \(.\{47\}\).*/\1/p' "$work/stamp" | tr -d ' \n-')
	if [ "$imprint" != "$(sha256 <SHA256SUMS)" ]; then
		problem time-stamp 'SHA256SUMS.tsr is not over SHA256SUMS'
	elif [ -n "$authority" ] && ! by_authority; then
		problem time-stamp 'SHA256SUMS.tsr was not signed by an authority of the certificates that are trusted'
	fi
}

# Certificates end, and a token outlives them: they count as they were then.
by_authority() {
	seconds=$(date -u -d "$stamped" +%s 2>/dev/null) &&
		openssl ts -verify -in SHA256SUMS.tsr -data SHA256SUMS -CAfile "$authority" -attime "$seconds" >/dev/null 2>&1
}

string='"([^"\\]|\\["\\bfnrt]|\\u[0-9a-f]{4})*"'
nanoseconds="-?(0|[1-9][0-9]{0,18})"
or_null="(null|$string)"
hash_or_null="(null|\"$hash\")"
time_of_day='([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{0,8}[1-9])?Z'
time="[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T$time_of_day"
receipt="\\{\"artifacts\":$number,\"bytes\":$number,\"chain_head\":\"$hash\",\"ended_utc_ns\":$nanoseconds,\"exit_code\":$number"
receipt="$receipt,\"incomplete\":$number,\"manifest_sha256\":$hash_or_null,\"manifest_version_id\":$or_null,\"members\":$number"
receipt="$receipt,\"prefix\":\"$place\",\"receipt_version\":1,\"result\":\"[a-z-]+\",\"segments\":$number"
receipt="$receipt,\"started_utc_ns\":$nanoseconds,\"tool_sha256\":$hash_or_null,\"tool_version\":$string\\}"
object="\\{\"key\":\"[A-Za-z0-9/.]+\",\"legal_hold\":(null|true|false),\"lock_mode\":$or_null,\"retain_until\":$or_null"
object="$object,\"sha256\":\"$hash\",\"size\":$number,\"version_id\":$or_null\\}"
statement="\\{\"journal\":\\{\"head\":\"$hash\",\"records\":$number\\},\"manifest_sha256\":$hash_or_null"
statement="$statement,\"objects\":\\[$object(,$object)*\\],\"operator\":$string,\"prefix\":\"$place\",\"receipt\":(null|$receipt)"
statement="$statement,\"seal_version\":1,\"sealed_at\":\"$time\",\"verdict\":\"(complete|partial|interrupted)\"\\}"

stated() {
	sed -n "s/$1/\\1/p" custody/000000.json
}

states() {
	[ "$2" = "$3" ] || problem statement "custody/000000.json states $1 $2, found is $3"
}

# No string holds a quotation mark that is not escaped, so what is looked for here can not stand in one.
check_statement() {
	present custody/000000.json "$max_text" || return 0
	if [ "$(tr -d '\040-\176' <custody/000000.json | od -An -tu1 | tr -d ' ')" != 10 ] ||
		[ "$(tail -c 1 custody/000000.json | od -An -tu1 | tr -d ' ')" != 10 ] ||
		! grep -Eqx "$statement" custody/000000.json; then
		problem statement 'custody/000000.json is not in canonical form'
		return
	fi
	found=null
	! listed manifest.json || ! readable manifest.json "$max_text" || found="\"$(sha256 <manifest.json)\""
	manifest=$(stated '^{"journal":{[^}]*},"manifest_sha256":\([^,]*\),"objects":\[.*')
	states 'manifest SHA-256' "$manifest" "$found"
	place_stated=$(stated '.*,"prefix":"\([^"]*\)","receipt":.*')
	[ -z "$prefix" ] || states prefix "$place_stated" "$prefix"
	verdict=$(stated '.*,"verdict":"\([a-z]*\)"}$')
	[ -s "$work/problems" ] || states verdict "$verdict" "$status"
	case $verdict-$manifest in
	interrupted-null | complete-?[0-9a-f]* | partial-?[0-9a-f]*) ;;
	*) problem statement 'the verdict of custody/000000.json does not go with its manifest' ;;
	esac
	if grep -q ',"receipt":{"artifacts":' custody/000000.json; then
		states 'a receipt for' "$(stated '.*,"prefix":"\([^"]*\)","receipt_version":.*')" "$place_stated"
		if [ "$manifest" != null ]; then
			states 'a receipt for manifest' "$(stated '.*,"manifest_sha256":\([^,]*\),"manifest_version_id":.*')" "$manifest"
			states 'a receipt for chain' "$(stated '.*,"chain_head":"\([0-9a-f]*\)","ended_utc_ns":.*')" "$head"
		fi
	fi
	stated '.*,"objects":\[\(.*\)\],"operator":.*' | sed 's/},{"key":/}\
{"key":/g' | sed -n 's/^{"key":"\([^"]*\)",.*,"sha256":"\([0-9a-f]*\)","size":.*/\2  \1/p' >"$work/stated"
	grep -v '  custody/000000\.json$' SHA256SUMS | cmp -s - "$work/stated" ||
		problem statement 'custody/000000.json lists other objects than SHA256SUMS'
}

# What is to be said of the seal when nothing is wrong.
tell_seal() {
	if [ -z "$sealed_by" ]; then
		echo 'not sealed: nobody signed what is here'
		grep -Ex "$of_the_seal" "$work/listed" | sed 's/^/not looked into: /'
		return
	fi
	if [ -n "$authority" ]; then
		printf 'sealed before %s, by the time stamp of a trusted authority\n' "$stamped"
	elif [ -n "$stamped" ]; then
		printf 'sealed before %s, by a time stamp of which nobody checked who signed it (-t does)\n' "$stamped"
	fi
	if [ -n "$trusted" ]; then
		printf 'sealed by the trusted key %s\n' "$sealed_by"
	else
		printf 'sealed by a key that is not trusted (%s): it lies beside, and proves only that all parts fit together\n' "$sealed_by"
	fi
}

# --- The whole. ---

main() {
	authority=''
	if [ "${1:-}" = -t ] && [ $# -gt 1 ]; then
		authority=$2
		shift 2
	fi
	[ $# -eq 1 ] || [ $# -eq 2 ] || die 2 "usage: $usage"
	for tool in awk cat cmp comm cut date find grep head mkfifo mktemp od rm sed sha256sum sort tail tar tee tr uniq wc zstd; do
		command -v "$tool" >/dev/null || die 1 "$tool is not installed"
	done
	case $(tar --version) in
	*'GNU tar'*) ;;
	*) die 1 'tar is not GNU tar' ;;
	esac
	[ -d "$1" ] || die 2 "usage: $usage; what is named is no folder"
	trusted=${2:-}
	if [ -n "$trusted$authority" ] || [ -e "$1/SHA256SUMS" ]; then
		command -v openssl >/dev/null || die 1 'openssl is not installed'
	fi
	work=$(mktemp -d) || die 1 'no temporary folder can be made'
	trap 'rm -rf -- "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	# They are named with their folder, so that no name of a file is an option.
	case $trusted in
	'' | /*) ;;
	*) trusted=./$trusted ;;
	esac
	case $authority in
	'' | /*) ;;
	*) authority=$PWD/$authority ;;
	esac
	[ -z "$authority" ] || openssl x509 -in "$authority" -noout 2>/dev/null ||
		die 2 'what -t names is no file with certificates in PEM'
	[ -z "$trusted" ] || public_key "$trusted" >"$work/trusted" ||
		die 2 "the second argument is no file with a public key of the curve P-256"
	case $1 in
	/*) cd "$1" ;;
	*) cd "./$1" ;;
	esac || die 2 'the folder can not be entered'
	mkdir "$work/empty"
	ulimit -f "$max_list_blocks"
	for list in problems chain records streams evidence memory beyond gaps sums failed; do : >"$work/$list"; done
	sealed=no status=interrupted prefix='' head='' end_block=0 m_inventory='' sealed_by='' stamped=''
	list
	verify
	check_seal
	if [ -s "$work/problems" ]; then
		cat "$work/problems"
		echo altered
		exit 20
	fi
	sed 's/$/ is missing: it did not arrive before the run was cut, or was removed/' "$work/gaps"
	cut -d ' ' -f 2 "$work/beyond" | sed 's/^/beyond the gap, whole, but not of the verified prefix: /'
	tell_seal
	printf '%s: %s, %s segments, head %s\n' "$status" "$prefix" "$(wc -l <"$work/records" | tr -d ' ')" "$head"
	case $status in
	complete) exit 0 ;;
	partial) exit 3 ;;
	*) exit 21 ;;
	esac
}

usage='verify.sh [-t tsa.pem] DIR [pubkey.pem]'
of_the_seal='SHA256SUMS(\.sig|\.tsr)?|pubkey\.pem|custody/000000\.json'
of_the_sums="CHAIN|manifest\.json|custody/000000\.json|$segment"

verify() {
	! listed manifest.json || read_manifest
	if listed CHAIN; then
		read_chain
	elif listed manifest.json; then
		problem missing 'CHAIN is missing'
	fi
	known=CHAIN
	if [ -s "$work/chain" ]; then
		prefix=$(sed -n '1s/^exhibit-chain 1 //p' "$work/chain")
	else
		known=$segment
		chain_of_links
	fi
	tail -n +2 "$work/chain" >"$work/records"
	cut -d ' ' -f 2 "$work/records" | sort >"$work/keys_of_records"
	grep -Evx "CHAIN|manifest\.json|$known|$of_the_seal" "$work/listed" | comm -23 - "$work/keys_of_records" |
		while IFS= read -r key; do problem extra "$key belongs to no collection, or is not listed by the chain"; done
	[ -s "$work/chain" ] || return 0
	[ "$sealed" = no ] || compare_chain
	grep ' evidence/' "$work/records" >"$work/evidence"
	grep ' memory/' "$work/records" >"$work/memory"
	for stream in evidence memory beyond; do check_stream "$stream"; done
}

main "$@"
