"""Prints the files and links of this host that match a list of globs, one JSON array of names in base64.

Usage: match.py LIST TIME. What changed since TIME, in seconds since 1970, is left out. A second opinion on what the agent's walk finds: by Python's glob, one pattern after the other.
`~` is a home by /etc/passwd or in /home. Only local file systems, as they are named in /proc/self/mountinfo.
"""

import base64, bisect, functools, glob, json, os, pwd, re, stat, sys

REAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "overlay", "tmpfs", "devtmpfs", "ramfs", "squashfs", "vfat", "f2fs", "zfs", "erofs"}
mounts = {}
for line in open("/proc/self/mountinfo"):
    fields, kind = line.split(" - ")
    mounts[fields.split()[4].encode().decode("unicode_escape")] = kind.split()[0]
homes = {entry.pw_dir for entry in pwd.getpwall()} | {entry.path for entry in os.scandir("/home")}
homes = {os.path.realpath(home) for home in homes if home not in ("", "/") and os.path.isdir(home)}


@functools.cache
def is_local(folder):
    while folder not in mounts:
        folder = os.path.dirname(folder)
    return mounts[folder] in REAL


@functools.cache
def real(folder):
    return os.path.realpath(folder)


def wanted(path):
    """The real place of a file or link, or none."""
    folder = real(os.path.dirname(path))
    path = os.path.join(folder, os.path.basename(path))
    try:
        status = os.lstat(path)
    except OSError:
        return None
    kind = stat.S_IFMT(status.st_mode)
    if status.st_ctime >= float(sys.argv[2]):
        return None
    return path if kind in (stat.S_IFREG, stat.S_IFLNK) and is_local(folder) else None


def everything():
    for folder, folders, names in os.walk("/"):
        if is_local(folder):
            yield from (os.path.join(folder, name) for name in names)
        else:
            folders.clear()


def deep(pattern):
    """What a pattern with `**` matches, by the list of all paths. No link is followed on the way."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", pattern)
    text = "".join(words.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts)
    matches = re.compile(text).fullmatch
    start = parts[0]
    first, last = bisect.bisect_left(paths, start), bisect.bisect_left(paths, start + "\U0010ffff")
    return filter(matches, paths[first:last])


paths = sorted(everything())
found = set()
for line in open(sys.argv[1]):
    pattern = line.strip()
    if not pattern or pattern.startswith("#") or pattern.startswith(("/proc/", "/sys/")):
        continue
    for one in [home + pattern[1:] for home in homes] if pattern.startswith("~") else [pattern]:
        found.update(deep(one) if "**" in one else glob.iglob(one, include_hidden=True))
names = {wanted(path) for path in found} - {None}
json.dump([base64.b64encode(os.fsencode(path)).decode() for path in sorted(names)], sys.stdout)
