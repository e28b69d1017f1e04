"""Prints the files and links of this host that match a list of globs, one JSON array of names in base64.

Usage: match.py LIST. A second opinion on what the agent's walk finds: by Python's glob, one pattern after the other.
`~` is a home by /etc/passwd or in /home. Only local file systems, as they are named in /proc/self/mountinfo.
"""

import base64, fnmatch, glob, json, os, pwd, re, stat, sys

REAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "overlay", "tmpfs", "devtmpfs", "ramfs", "squashfs", "vfat", "f2fs", "zfs", "erofs"}
mounts = {}
for line in open("/proc/self/mountinfo"):
    fields, kind = line.split(" - ")
    mounts[fields.split()[4].encode().decode("unicode_escape")] = kind.split()[0]
homes = {entry.pw_dir for entry in pwd.getpwall()} | {entry.path for entry in os.scandir("/home")}
homes = {os.path.realpath(home) for home in homes if home not in ("", "/") and os.path.isdir(home)}


def is_local(path):
    while path not in mounts:
        path = os.path.dirname(path)
    return mounts[path] in REAL


def wanted(path):
    """The real place of a file or link, or none."""
    folder, name = os.path.split(path)
    folder = os.path.realpath(folder)
    path = os.path.join(folder, name)
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return None
    return path if kind in (stat.S_IFREG, stat.S_IFLNK) and is_local(folder) else None


found, anywhere = set(), []
for line in open(sys.argv[1]):
    pattern = line.strip()
    if not pattern or pattern.startswith("#") or pattern.startswith(("/proc/", "/sys/")):
        continue
    if pattern.startswith("/**/"):
        anywhere.append(re.compile("(.*/)?" + fnmatch.translate(pattern[4:]).replace(".*", "[^/]*")))
        continue
    for one in [home + pattern[1:] for home in homes] if pattern.startswith("~") else [pattern]:
        found.update(glob.iglob(one, recursive=True, include_hidden=True))
for folder, folders, names in os.walk("/"):
    if not is_local(folder):
        folders.clear()
        continue
    for name in names:
        path = os.path.join(folder, name)[1:]
        if any(pattern.fullmatch(path) for pattern in anywhere):
            found.add("/" + path)
real = {wanted(path) for path in found} - {None}
json.dump([base64.b64encode(os.fsencode(path)).decode() for path in sorted(real)], sys.stdout)
