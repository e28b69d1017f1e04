#!/bin/sh
# Fills corpus/ from the vectors, so that fuzzing starts inside of the format and not before its first magic number.
set -eu
cd "$(dirname "$0")"
for target in chain contents custody entry frame iomem kcore lime link manifest public_key receipt signature statement sums tar time_stamp verify; do
	mkdir -p "corpus/$target"
done

little_endian() { # number of bytes, as two
	# shellcheck disable=SC2059 # the format is made of digits
	printf "$(printf '\\%03o\\%03o' $(($1 % 256)) $(($1 / 256 % 256)))"
}

for collection in ../evidence/vectors/*/*/collection; do
	name=$(basename "$(dirname "$collection")")
	[ ! -f "$collection/CHAIN" ] || cp "$collection/CHAIN" "corpus/chain/$name"
	[ ! -f "$collection/manifest.json" ] || cp "$collection/manifest.json" "corpus/manifest/$name"
	[ ! -f "$collection/SHA256SUMS" ] || cp "$collection/SHA256SUMS" "corpus/sums/$name"
	[ ! -f "$collection/SHA256SUMS.sig" ] || cp "$collection/SHA256SUMS.sig" "corpus/signature/$name"
	[ ! -f "$collection/pubkey.pem" ] || cp "$collection/pubkey.pem" "corpus/public_key/$name"
	[ ! -f "$collection/custody/000000.json" ] || cp "$collection/custody/000000.json" "corpus/statement/$name"
	[ ! -f "$collection/SHA256SUMS.tsr" ] || cp "$collection/SHA256SUMS.tsr" "corpus/time_stamp/$name"
	: >"corpus/verify/$name"
	number=0
	for key in CHAIN manifest.json evidence/00000.tar.zst evidence/00001.tar.zst evidence/00002.tar.zst memory/00000.lime.zst \
		SHA256SUMS evidence/notes.txt SHA256SUMS.sig pubkey.pem custody/000000.json SHA256SUMS.tsr; do
		if [ -f "$collection/$key" ]; then
			{
				# shellcheck disable=SC2059 # the format is made of digits
				printf "\\0$(printf '%02o' "$number")"
				little_endian "$(wc -c <"$collection/$key")"
				cat "$collection/$key"
			} >>"corpus/verify/$name"
		fi
		number=$((number + 1))
	done
	[ ! -f "$collection/memory/00000.lime.zst" ] ||
		cat "$collection"/memory/*.lime.zst | zstd -dcq 2>/dev/null | head -c 20000 >"corpus/lime/$name" || :
	first=$collection/evidence/00000.tar.zst
	[ -f "$first" ] || continue
	cp "$first" "corpus/link/$name"
	# What follows the link is frames; the length of the link stands in its fifth and sixth byte.
	link=$(od -An -tu1 -j4 -N2 "$first" | awk '{ print 9 + $1 + 256 * $2 }')
	tail -c "+${link:-1}" "$first" >"corpus/frame/$name"
	cat "$collection"/evidence/*.tar.zst | zstd -dcq 2>/dev/null | head -c 100000 >"corpus/tar/$name" || :
	cp "corpus/tar/$name" "corpus/contents/$name"
done
cat corpus/tar/* | tr '\0' '\n' | grep -a '^{"path' | sort -u | head -n 200 | awk '{ printf "%s", $0 > ("corpus/entry/" NR); close("corpus/entry/" NR) }'
hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
printf '{"artifacts":4,"bytes":2,"chain_head":"%s","ended_utc_ns":1,"exit_code":3,"incomplete":1,"manifest_sha256":null,"manifest_version_id":null,"members":3,"prefix":"c/h/1","receipt_version":1,"result":"partial","segments":1,"started_utc_ns":-1,"tool_sha256":"%s","tool_version":"0.1.0"}' $hash $hash >corpus/receipt/partial
cp ../evidence/vectors/custody/*.jsonl corpus/custody/
cp ../evidence/vectors/time-stamp/*.tsr corpus/time_stamp/
cp ../agent/tests/fixtures/memory/iomem*.txt corpus/iomem/
cp ../agent/tests/fixtures/memory/kcore-head*.bin corpus/kcore/
