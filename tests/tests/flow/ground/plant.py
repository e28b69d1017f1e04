"""Plants known facts on this machine, in a mount namespace of its own, and runs the agent on it.

Usage: plant.py AGENT TO FACTS, as root in a new mount namespace whose mounts are private. Nothing of it stays: files go
into layers of a tmpfs over the real directories, processes end with this one. FACTS takes what has to be found, as JSON.
"""

import array, base64, ctypes, encodings.idna, fcntl, hashlib, json, mmap, os, shutil, signal, socket, stat, struct, subprocess, sys, threading, time

AGENT, TO, FACTS_FILE = sys.argv[1:]
LAYERED = ["/etc", "/var", "/usr", "/root", "/home", "/opt", "/run", "/srv", "/boot"]
libc = ctypes.CDLL(None, use_errno=True)
facts = []
children = []


def must(answer):
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def mount(source, target, kind, flags=0, options=""):
    must(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()))


def fact(name, /, **what):
    facts.append({"name": name, **what})


def member(name, path, content):
    """The file is collected whole."""
    path = os.fsencode(path)
    fact(name, member=base64.b64encode(b"[root]" + path).decode(), sha256=hashlib.sha256(content).hexdigest())


def row(name, table, /, **has):
    """A line of the table has these values, whatever else it has."""
    fact(name, table=table, has=has)


def within(name, member_name, part):
    """The member, with all its parts, contains these bytes."""
    fact(name, within=member_name, part=base64.b64encode(part).decode())


def write(path, content, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)


def layers():
    """A layer of memory over the real directories, and nothing in the place of the large ones."""
    mount("tmpfs", "/mnt", "tmpfs", 0, "size=2g")
    for name in LAYERED:
        if not os.path.isdir(name) or os.path.islink(name):
            continue
        upper, work = f"/mnt/up{name}", f"/mnt/work{name}"
        os.makedirs(upper)
        os.makedirs(work)
        mount("overlay", name, "overlay", 0, f"lowerdir={name},upperdir={upper},workdir={work}")
    os.makedirs("/srv/out")
    mount(TO, "/srv/out", "", MS_BIND)
    shutil.copy(AGENT, "/srv/agent")
    for name in os.listdir("/"):
        if name in ("tmp", "work", "builds", "check"):
            mount("tmpfs", f"/{name}", "tmpfs")
    for name in ("/root/.cargo", "/root/.rustup", "/root/.pyenv/versions"):
        if os.path.isdir(name):
            mount("tmpfs", name, "tmpfs")


MS_BIND = 4096

# --- Files: persistence of every kind, and what else responders look for. ---

KEPT = """
/etc/cron.d/plant
/etc/cron.hourly/plant
/etc/crontab
/etc/anacrontab
/var/spool/cron/crontabs/plant
/var/spool/cron/atjobs/a00001019f0e2c
/etc/systemd/system/plant.service
/etc/systemd/system/ssh.service.d/plant.conf
/etc/systemd/system/plant.timer
/run/systemd/system/plant-transient.service
/run/systemd/generator/plant.service
/usr/lib/systemd/system-generators/plant
/root/.config/systemd/user/plant.service
/etc/init.d/plant
/etc/rc.local
/etc/profile.d/plant.sh
/root/.bashrc
/root/.bash_history
/root/.bash_logout
/root/.vimrc
/root/.python_history
/root/.ssh/authorized_keys
/root/.ssh/rc
/etc/ssh/sshd_config.d/plant.conf
/etc/sudoers.d/plant
/etc/pam.d/plant
/etc/security/pam_env.conf
/etc/ld.so.conf.d/plant.conf
/etc/udev/rules.d/99-plant.rules
/etc/modules-load.d/plant.conf
/etc/modprobe.d/plant.conf
/etc/apt/apt.conf.d/99plant
/etc/NetworkManager/dispatcher.d/plant
/etc/network/if-up.d/plant
/etc/dbus-1/system.d/plant.conf
/etc/polkit-1/rules.d/10-plant.rules
/etc/xdg/autostart/plant.desktop
/etc/update-motd.d/99-plant
/etc/logrotate.d/plant
/etc/binfmt.d/plant.conf
/etc/sysctl.d/99-plant.conf
/etc/environment
/etc/hosts
/etc/kernel/postinst.d/plant
/etc/initramfs-tools/hooks/plant
/etc/skel/.bashrc
/usr/lib/python3/dist-packages/plant.pth
/usr/lib/python3/dist-packages/sitecustomize.py
/var/lib/dhcp/dhclient.leases
/var/lib/cloud/instance/user-data.txt
/var/lib/amazon/ssm/i-0123456789abcdef0/document/orchestration/plant/awsrunShellScript/0.awsrunShellScript/stdout
/var/log/amazon/ssm/amazon-ssm-agent.log
/var/log/plant.log
/var/log/audit/audit.log
/var/log/nginx/access.log
/var/lib/docker/containers/0123456789ab/config.v2.json
/etc/docker/daemon.json
/var/www/html/plant.php
/tmp/.hidden/payload
/var/tmp/payload
""".split()


def files():
    for number, path in enumerate(KEPT):
        content = f"# plant {number}: {path}\n".encode()
        write(path, content)
        member(f"file {path}", path, content)
    names = {"newline": b"a\nb|\"", "escape": b"\x1b[31mred", "not UTF-8": b"\xff\xfe", "longest": b"n" * 255}
    for kind, name in names.items():
        path = b"/var/log/" + name
        with open(path, "wb") as file:
            file.write(b"odd " + name)
        member(f"a name with {kind}", path, b"odd " + name)
    with open("/var/log/sparse.log", "wb") as file:
        file.seek(32 << 20)
        file.write(b"tail")
    member("a sparse log", "/var/log/sparse.log", bytes(32 << 20) + b"tail")
    os.mkdir("/var/log/volume")
    mount("tmpfs", "/var/log/volume", "tmpfs")
    write("/var/log/volume/own.log", b"on a volume of its own")
    member("a log on a volume of its own", "/var/log/volume/own.log", b"on a volume of its own")
    row("the volume", "live_response/system/mounts.jsonl", point="/var/log/volume")
    os.symlink("loop-b", "/var/log/loop-a")
    os.symlink("loop-a", "/var/log/loop-b")
    within("a loop of links", "bodyfile/bodyfile.txt", b"/var/log/loop-a -> loop-b")
    for what, path in (("what is in a hidden directory", b"/tmp/.hidden/payload"), ("a planted unit", b"/etc/systemd/system/plant.timer")):
        within(f"the bodyfile has {what}", "bodyfile/bodyfile.txt", path)
    write("/root/.aws/credentials", b"aws_secret_access_key = planted")
    fact(
        "cloud credentials by their hash",
        inventory={"path": "[root]/root/.aws/credentials", "sha256": hashlib.sha256(b"aws_secret_access_key = planted").hexdigest()},
    )
    write("/etc/shadow", b"plant:$y$j9T$planted:19000:0:99999:7:::\n", 0o600)
    within("an account without its hash", "[root]/etc/shadow", b"plant:")


def marks():
    """What only attributes tell."""

    def marked(name, path, word, **more):
        row(name, "live_response/filesystem/facts.jsonl", **{"file.path": path, "facts": [word], **more})

    write("/var/tmp/suid", b"x", 0o4755)
    marked("SUID", "/var/tmp/suid", "suid", **{"file.mode": "104755"})
    row("SUID in an odd place", "findings.jsonl", rule="suid-in-odd-place", **{"file.path": "/var/tmp/suid"})
    write("/usr/local/bin/sgid", b"x", 0o2755)
    marked("SGID", "/usr/local/bin/sgid", "sgid")
    write("/usr/local/bin/capable", b"x", 0o755)
    os.setxattr("/usr/local/bin/capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    marked("file capabilities", "/usr/local/bin/capable", "capabilities")
    write("/etc/payload", b"x")
    os.setxattr("/etc/payload", "trusted.plant", b"in an attribute")
    marked("a payload in an attribute", "/etc/payload", "xattr")
    write("/usr/local/bin/everybody", b"x", 0o777)
    marked("a program that everybody can write", "/usr/local/bin/everybody", "world_writable_executable")
    row("which is a finding", "findings.jsonl", rule="world-writable-executable", **{"file.path": "/usr/local/bin/everybody"})
    marked("a hidden directory", "/tmp/.hidden", "hidden_directory")
    os.mknod("/var/tmp/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    marked("a device outside /dev", "/var/tmp/null", "device_outside_dev")
    os.mkfifo("/var/tmp/fifo")
    within("a FIFO that nobody opens", "bodyfile/bodyfile.txt", b"/var/tmp/fifo")
    for path, flag, word in (("/var/log/volume/immutable", 0x10, "immutable"), ("/var/log/volume/appended", 0x20, "append_only")):
        write(path, b"x")
        with open(path) as file:
            fcntl.ioctl(file, 0x40086602, array.array("L", [flag]))  # FS_IOC_SETFLAGS
        marked(word, path, word)
    row("a changed file is recent", "live_response/filesystem/recent.jsonl", **{"file.path": "/etc/cron.d/plant"})


def login():
    """A login in wtmp, by utmp(5)."""
    record = struct.pack("<hxxi32s4s32s256shhiii4I20x", 7, 4242, b"pts/7", b"ts/7", b"plant", b"203.0.113.7", 0, 0, 0, int(time.time()), 0, 0, 0, 0, 0)
    assert len(record) == 384
    with open("/var/log/wtmp", "ab") as file:
        file.write(record)
    row("a login", "live_response/system/logins.jsonl", user="plant", line="pts/7", host="203.0.113.7")


# --- Processes and what only they hold. ---


def child(work, *values):
    """A process that holds what `work` made, until this one ends; the answer is its pid and what `work` returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        must(libc.prctl(1, signal.SIGKILL))
        os.write(writer, json.dumps(work(*values)).encode() + b"\n")
        while True:
            time.sleep(3600)
    os.close(writer)
    children.append(pid)
    with os.fdopen(reader) as answer:
        return pid, json.loads(answer.readline())


def run(path, *arguments, environment=None, cwd=None):
    """A program that runs until this one ends."""
    pid = os.fork()
    if pid == 0:
        must(libc.prctl(1, signal.SIGKILL))
        if cwd:
            os.chdir(cwd)
        os.execve(path, list(arguments), environment or {})
    children.append(pid)
    for _ in range(500):
        if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith(os.path.basename(os.fsdecode(path))):
            return pid
        time.sleep(0.01)
    raise RuntimeError(f"{path} never ran")


def recovered(name, pid, held, content):
    fact(name, recovered={"pid": pid, "held": held}, sha256=hashlib.sha256(content).hexdigest())


def executables():
    sleep = open("/bin/sleep", "rb").read()
    for size, more in (("small", 7), ("large", 40 << 20)):
        path, content = f"/tmp/{size}", sleep + bytes(n % 251 for n in range(1 << 16)) * (more >> 16) + b"end"
        write(path, content, 0o755)
        pid = run(path, path, "3600")
        os.unlink(path)
        recovered(f"a deleted executable, {size}", pid, "executable", content)
        row(f"it is a finding, {size}", "findings.jsonl", rule="deleted-executable", pid=pid)
    memory = os.memfd_create("plant-program", 0)
    os.write(memory, sleep + b"from memory")
    pid = os.fork()
    if pid == 0:
        must(libc.prctl(1, signal.SIGKILL))
        os.execve(memory, ["[kworker/0:9]", "3600"], {})
    children.append(pid)
    while "plant-program" not in os.readlink(f"/proc/{pid}/exe"):
        time.sleep(0.01)
    recovered("an executable of memory alone", pid, "executable", sleep + b"from memory")
    row("it is a finding", "findings.jsonl", rule="memfd-executable", pid=pid)
    row("a false kernel thread", "findings.jsonl", rule="false-kernel-thread", pid=pid)
    os.close(memory)
    os.mkdir("/tmp/gone")
    pid = run("/bin/sleep", "odd\n\x1b[31m", "3600", environment={"LD_PRELOAD": "/tmp/libplant.so", "PLANT": "in the environment"}, cwd="/tmp/gone")
    os.rmdir("/tmp/gone")
    row("a working directory that is gone", "live_response/process/processes.jsonl", process={"pid": pid, "working_directory": "/tmp/gone (deleted)"})
    row("hostile arguments", "live_response/process/processes.jsonl", process={"pid": pid, "args": ["odd\n\x1b[31m"]})
    within("an environment", f"[root]/proc/{pid}/environ", b"PLANT=in the environment\0")
    row("a preloaded library", "findings.jsonl", rule="preload-in-environment", pid=pid)
    covered = run("/bin/sleep", "covered", "3600")
    os.mkdir("/tmp/empty")
    mount("/tmp/empty", f"/proc/{covered}", "", MS_BIND)
    row("a process under a mount", "findings.jsonl", rule="covered-process", pid=covered)


def held():
    def work():
        memory = os.memfd_create("plant-data")
        os.write(memory, b"data of memory alone")
        file = os.open("/tmp/open", os.O_RDWR | os.O_CREAT)
        os.write(file, b"deleted, still open")
        os.unlink("/tmp/open")
        mapped = os.open("/tmp/mapped", os.O_RDWR | os.O_CREAT)
        os.write(mapped, b"deleted, still mapped" + bytes(5000))
        work.map = mmap.mmap(mapped, 5021, prot=mmap.PROT_READ)
        os.unlink("/tmp/mapped")
        os.close(mapped)
        timer = ctypes.c_void_p()
        must(libc.timer_create(1, None, ctypes.byref(timer)))
        work.kept = memory, file, timer
        return None

    pid, _ = child(work)
    recovered("a memfd", pid, "open", b"data of memory alone")
    recovered("a deleted file that is open", pid, "open", b"deleted, still open")
    recovered("a deleted file that is mapped", pid, "mapped", b"deleted, still mapped" + bytes(5000))
    within("a timer", f"[root]/proc/{pid}/timers", b"ClockID: 1")


def sockets():
    def work():
        made = {}

        def keep(name, one):
            made[name] = one
            return one

        keep("tcp", socket.create_server(("127.0.0.1", 0)))
        keep("tcp6", socket.create_server(("::1", 0), family=socket.AF_INET6))
        keep("tcp, connected", socket.create_connection(made["tcp"].getsockname()))
        keep("udp", socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(("127.0.0.1", 0))
        keep("udp6", socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)).bind(("::1", 0))
        keep("raw", socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        keep("packet", socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        keep("netlink", socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)).bind((0, 1))
        keep("unix", socket.socket(socket.AF_UNIX)).bind("/tmp/plant.sock")
        keep("unix, abstract", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind("\0plant")
        keep("unix, seqpacket", socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)).bind("/tmp/plant.seq")
        work.kept = made
        namespace = os.stat("/proc/self/ns/net").st_ino
        return {name: [os.fstat(one.fileno()).st_ino, namespace] for name, one in made.items()}

    def elsewhere():
        must(libc.unshare(0x40000000))  # CLONE_NEWNET
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.bind(("0.0.0.0", 4444))
        one.listen()
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        elsewhere.kept = one, packet
        namespace = os.stat("/proc/self/ns/net").st_ino
        return {"tcp in another namespace": [os.fstat(one.fileno()).st_ino, namespace], "packet in another namespace": [os.fstat(packet.fileno()).st_ino, namespace]}

    for work in (work, elsewhere):
        pid, made = child(work)
        for name, (inode, namespace) in made.items():
            row(f"a socket: {name}", "live_response/network/sockets.jsonl", process=[{"pid": pid}], exhibit={"inode": inode, "netns": namespace})


def firewall():
    """Rules, a connection that is sent elsewhere, and a class of traffic control, set by the programs that administrators use."""

    def work():
        must(libc.unshare(0x40000000))  # CLONE_NEWNET
        for command in (
            "ip link set lo up",
            "ip address add 192.0.2.9/32 dev lo",
            "iptables-legacy -t nat -A OUTPUT -p tcp -d 192.0.2.9 --dport 80 -j DNAT --to-destination 127.0.0.1:31337",
            "ip6tables-legacy -A INPUT -s 2001:db8::/32 -j DROP",
            "iptables-nft -t raw -A PREROUTING -s 203.0.113.9 -j DROP",
            "tc qdisc add dev lo root handle 1: htb",
            "tc class add dev lo parent 1: classid 1:10 htb rate 1mbit",
        ):
            subprocess.run(command.split(), check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        listener = socket.create_server(("127.0.0.1", 31337))
        work.kept = listener, socket.create_connection(("192.0.2.9", 80))
        return {"port": work.kept[1].getsockname()[1], "netns": os.stat("/proc/self/ns/net").st_ino}

    pid, made = child(work)
    netns, port, folder = made["netns"], made["port"], "live_response/network"
    row("a rule of iptables", f"{folder}/iptables.jsonl", netns=netns, family="ip", table="nat", chain="OUTPUT", destination="192.0.2.9/32", target="DNAT")
    row("a rule of ip6tables", f"{folder}/iptables.jsonl", netns=netns, family="ip6", table="filter", chain="INPUT", source="2001:db8::/32", target="DROP")
    row("a rule of nftables", f"{folder}/nftables.jsonl", netns=netns, kind="rule", family="ip", table="raw", chain="PREROUTING")
    row("a class", f"{folder}/traffic.jsonl", netns=netns, of="class", kind="htb", handle="1:10")
    original, reply = {"destination": "192.0.2.9", "source_port": port, "destination_port": 80}, {"source": "127.0.0.1", "source_port": 31337}
    row("a connection that is sent elsewhere", f"{folder}/connections.jsonl", netns=netns, state="ESTABLISHED", original=original, reply=reply)


def keys():
    number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    must(libc.syscall(number, b"user", b"exhibit-plant", b"secret", 6, ctypes.c_int(-3)))  # add_key, session keyring
    within("a key", "[root]/proc/keys", b"exhibit-plant")


def growing():
    """A log that grows while it is read."""
    path = "/var/log/growing.log"
    write(path, b"first line\n")

    def grow():
        while True:
            with open(path, "ab") as file:
                file.write(b"one more line of a busy service\n" * 100)
            time.sleep(0.002)

    threading.Thread(target=grow, daemon=True).start()
    within("a log that grows", "[root]" + path, b"first line\n")


def preload():
    """Last: programs of the host that start after it say that the library is not there."""
    write("/etc/ld.so.preload", b"/usr/lib/libplant.so\n")
    member("what is preloaded for all", "/etc/ld.so.preload", b"/usr/lib/libplant.so\n")
    row("it is a finding", "findings.jsonl", rule="preload-for-all")


try:
    layers()
    for plant in (files, marks, login, executables, held, sockets, firewall, keys, growing, preload):
        plant()
    with open(FACTS_FILE.replace(TO, "/srv/out"), "w") as file:
        json.dump(facts, file)
    left_out = "memory,symbols,integrity,installed,executables,package_databases,places"
    ended = subprocess.run(["/srv/agent", "collect", "--case", "IR-7", "--quiet", "--normal-priority", "--to", "/srv/out", "--exclude", left_out])
finally:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
os._exit(ended.returncode)
