import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open();
});
afterAll(() => attacked[Symbol.asyncDispose]());

const NEW_USER = 0x10000000;
/** The engine's own profile refuses these already, without a capability. */
const NO_PROFILE = { SecurityOpt: ["seccomp=unconfined"] };

describe("no setuid or setgid bits: a cell can't set them", () => {
  const program = `path = "/tmp/program"\npathlib.Path(path).write_bytes(b"#!/bin/sh")\n`;
  test.for([
    ["with chmod", `${program}os.chmod(path, 0o4755)`],
    ["with chmod for the group", `${program}os.chmod(path, 0o2755)`],
    ["with fchmod", `${program}os.fchmod(os.open(path, os.O_RDONLY), 0o6755)`],
    ["with fchmodat", `${program}os.chmod("program", 0o4755, dir_fd=os.open("/tmp", os.O_RDONLY))`],
    ["with fchmodat2", `${program}checked(libc.syscall(452, -100, path.encode(), 0o4755, 0))`],
    ["with open", `os.open("/tmp/new", os.O_CREAT | os.O_WRONLY, 0o4755)`],
    ["with a temporary file that gets a name later", `os.open("/tmp", os.O_TMPFILE | os.O_WRONLY, 0o4755)`],
    ["with creat", `checked(libc.creat(b"/tmp/created", 0o4755))`],
    ["with mknod", `os.mknod("/tmp/node", 0o104755)`],
    ["with mkdir", `os.mkdir("/tmp/directory", 0o2777)`],
    [
      "with the shell, in the workspace",
      `subprocess.run("cp /bin/sh sh && chmod u+s sh", shell=True, check=True, capture_output=True)`,
    ],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(/^refused: (PermissionError|CalledProcessError)/);
  });

  test("with openat2, whose mode a filter can't see", async () => {
    const code = `import struct\nsyscall("openat2", -100, b"/tmp/second", struct.pack("QQQ", 0o101, 0o4755, 0), 24)`;
    expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 38\]/);
    expect(await withoutWalls(attacked.image, code)).toMatch(/^succeeded: \d+/);
  });

  test("which the same image does without our filter", async () => {
    const code = `${program}os.chmod(path, 0o4755)\noct(os.stat(path).st_mode)`;
    expect(await withoutWalls(attacked.image, code)).toBe("succeeded: '0o104755'");
  });

  test("and the image has no program that has them", async () => {
    const code = `subprocess.run("find / -xdev -perm /6000 -type f 2>/dev/null", shell=True, capture_output=True).stdout`;
    expect(await attacked.tries(code)).toBe("succeeded: b''");
  });
});

describe("no namespaces and mounts: a cell can't", () => {
  test.for([
    ["unshare a user namespace", `syscall("unshare", ${NEW_USER})`],
    [
      "clone a process into one",
      `checked(libc.syscall(56 if os.uname().machine == "x86_64" else 220, ${NEW_USER + 17}, 0, 0, 0, 0)) or os._exit(0)`,
    ],
    ["unshare a time namespace", `syscall("unshare", 0x80)`],
    ["enter a namespace of init", `syscall("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0)`],
    ["mount a file system", `checked(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))`],
    ["remount the workspace's masks away", `checked(libc.umount2(b".env", 2))`],
    ["make a read-only mount writable", `checked(libc.mount(None, b"/run/ipybox", None, 0x1020, None))`],
    ["change the root", `os.chroot("/tmp")`],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(/^refused: PermissionError/);
  });

  test("clone3 or the new mount calls, which programs take for an older kernel", async () => {
    expect(await attacked.tries(`syscall("clone3", None, 0)`)).toMatch(/^refused: OSError: \[Errno 38\]/);
    expect(await attacked.tries(`syscall("fsopen", b"tmpfs", 0)`)).toMatch(/^refused: OSError: \[Errno 38\]/);
  });

  test("make a user namespace, which the same image does without filters", async () => {
    const code = `syscall("unshare", ${NEW_USER})`;
    expect(await withoutWalls(attacked.image, code, NO_PROFILE)).toBe("succeeded: 0");
  });
});

describe("a smaller kernel: a cell doesn't get", () => {
  test.for([
    ["io_uring", `syscall("io_uring_setup", 4, ctypes.create_string_buffer(120))`],
    ["userfaultfd", `syscall("userfaultfd", 1)`],
    ["keyrings", `syscall("keyctl", 0, -3, 1)`],
    ["bpf", `syscall("bpf", 0, ctypes.create_string_buffer(72), 72)`],
    ["perf events", `syscall("perf_event_open", ctypes.create_string_buffer(112), 0, -1, -1, 0)`],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 38\]/);
  });

  test.for([
    ["keyrings", `syscall("keyctl", 0, -3, 1) and "there"`],
    ["io_uring", `syscall("io_uring_setup", 4, ctypes.create_string_buffer(120)) and "there"`],
  ] as const)("%s, which the same image has without filters", async ([, code]) => {
    expect(await withoutWalls(attacked.image, code, NO_PROFILE)).toBe("succeeded: 'there'");
  });

  test("the calls of 32-bit programs, which end it", async () => {
    const code = `import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20; int 0x80; ret
pid = os.fork()
if pid == 0:
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
-os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (signal.SIGSYS, signal.SIGILL, signal.SIGSEGV)`;
    expect(await attacked.tries(code)).toBe("succeeded: True");
  });
});

describe("no privileges: a cell can't", () => {
  test.for([
    ["become root", `os.setuid(0)`],
    ["change its groups", `os.setgroups([0])`],
    ["make a device", `os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))`],
    ["open the machine's memory", `open("/dev/mem", "rb")`],
    ["read the kernel's log", `os.open("/dev/kmsg", os.O_RDONLY)`],
    ["set the clock", `time.clock_settime(time.CLOCK_REALTIME, 0)`],
    ["change the hostname", `socket.sethostname("other")`],
    ["change a kernel's setting", `open("/proc/sys/kernel/core_pattern", "w")`],
    ["write to the control groups", `open(glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[0], "w")`],
    ["open a file by its handle", `syscall("open_by_handle_at", 3, ctypes.create_string_buffer(136), 0)`],
    ["write to the image", `open("/opt/ipybox/lib/ipybox_sandbox/init.py", "a")`],
    ["write to the packages", `open("/opt/ipybox/packages/x", "w")`],
    ["make a socket beside ours", `socket.socket(socket.AF_UNIX).bind("/run/ipybox/x.sock")`],
    ["remove a socket of ours", `os.unlink("/run/ipybox/gateway.sock")`],
    ["change a socket of ours", `os.chmod("/run/ipybox/tools.sock", 0o777)`],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(/^refused: (PermissionError|FileNotFoundError|OSError: \[Errno 30\])/);
  });
});
