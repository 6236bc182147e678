#!/usr/bin/env python3
"""Find or fetch libtorch 2.13.0, the C++ library that coprof links, and link it as `.libtorch`.

On Linux (x86-64 or aarch64) it is taken once per user from Python's package index, without its GPU half.
With LIBTORCH or LIBTORCH_USE_PYTORCH set, the user's own libtorch is used and nothing is fetched.
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "2.13.0"
REPO = Path(__file__).resolve().parent.parent
LINK = REPO / ".libtorch"
NEEDED_BYTES = 1_200_000_000
# glibc 2.28 and these tags are what the wheels were built for: pip matches a tag only if it is spelled exactly.
TAGS = ("manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014")

# libtorch_cpu.so calls neither CUPTI nor the CUDA runtime on a CPU, but does not load without them.
WANTED = re.compile(
    r"torch/(?P<include>include/.+[^/])"
    r"|torch/(?P<lib>lib/lib(c10|torch_cpu|gomp|arm_compute\w*|nvpl_\w+)\.so[.\d]*)"
    r"|nvidia/cu13/(?P<cuda>lib/lib(cudart|cupti)\.so[.\d]*)"
)
# The wheel's own libtorch.so would pull in its GPU half; the linker asks for both names.
ALIASES = {"libtorch.so": "libtorch_cpu.so", "libgomp.so": "libgomp.so.1"}


def fail(what, todo):
    sys.exit(f"error: {what}\n  {todo}")


def check_own(folder):
    if not any((folder / "lib" / f"libtorch_cpu.{ext}").is_file() for ext in ("so", "dylib")):
        fail(
            f"LIBTORCH is '{folder}', but libtorch is not there (no lib/libtorch_cpu.so).",
            "Point it at an unpacked libtorch, or unset it to have one fetched.",
        )
    stamp = folder / "build-version"
    version = stamp.read_text().split("+")[0].strip() if stamp.is_file() else VERSION
    if version != VERSION and "LIBTORCH_BYPASS_VERSION_CHECK" not in os.environ:
        fail(
            f"LIBTORCH is '{folder}', which holds libtorch {version}; coprof needs {VERSION}.",
            f"Point it at libtorch {VERSION}, or unset it to have one fetched.",
        )


def download(machine, folder):
    platforms = [f"--platform={tag}_{machine}" for tag in TAGS]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--python-version=3.12", "--implementation=cp", *platforms]
    command += ["--require-hashes", f"--requirement={REPO / 'scripts' / f'libtorch-{machine}.txt'}"]
    # pip's own temporary copy of 0.5 GB belongs on the disk that was checked, and goes with the folder.
    environment = {**os.environ, "TMPDIR": str(folder)}
    if subprocess.run([*command, f"--dest={folder}"], env=environment).returncode != 0:
        fail(
            "pip could not download libtorch (its messages are above).",
            "Check the network and that `python3 -m pip` works, then run this again; or set LIBTORCH to your own.",
        )


def unpack(wheels, folder):
    chosen = []
    for wheel in sorted(wheels.glob("*.whl")):
        archive = zipfile.ZipFile(wheel)
        for entry in archive.infolist():
            match = WANTED.fullmatch(entry.filename)
            if match:
                chosen.append((archive, entry, folder / match[match.lastgroup]))
    total = sum(entry.file_size for _, entry, _ in chosen)
    done, told = 0, 0
    print(f"Unpacking {total / 1e6:.0f} MB:", end="", flush=True)
    try:
        for archive, entry, target in chosen:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as sink:
                while chunk := source.read(1 << 22):
                    sink.write(chunk)
                    done += len(chunk)
                    while told < 10 * done // total:
                        told += 1
                        print(f" {told}0%", end="", flush=True)
    finally:
        print(flush=True)
    for alias, name in ALIASES.items():
        (folder / "lib" / alias).symlink_to(name)


def fetch(machine, home):
    """Fills a `.part` folder and renames it, so that `home` is complete whenever it exists."""
    part = home.with_name(home.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        free = shutil.disk_usage(part).free
        if free < NEEDED_BYTES:
            fail(
                f"libtorch needs {NEEDED_BYTES / 1e9} GB in {home.parent}; {free / 1e9:.1f} GB are free.",
                "Free some space, or set XDG_CACHE_HOME to a folder on another disk.",
            )
        print(f"Fetching libtorch {VERSION} (about 0.5 GB, once) into {home}", flush=True)
        download(machine, part)
        unpack(part, part / "libtorch")
        # torch-sys compares this file with the version it was written for.
        (part / "libtorch" / "build-version").write_text(VERSION + "\n")
        shutil.rmtree(home, ignore_errors=True)
        (part / "libtorch").rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def provide():
    machine = platform.machine()
    libc, libc_version = platform.libc_ver()
    if (
        sys.platform != "linux"
        or machine not in ("x86_64", "aarch64")
        or libc != "glibc"
        or tuple(map(int, libc_version.split(".")[:2])) < (2, 28)
    ):
        fail(
            f"no libtorch to fetch for {sys.platform} on {machine} (only Linux x86_64 and aarch64, glibc 2.28 on).",
            f"Set LIBTORCH to an unpacked libtorch {VERSION}, or LIBTORCH_USE_PYTORCH=1 to use Python's torch.",
        )
    import fcntl  # not on Windows, which the check above has turned away

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coprof"
    home = cache / f"libtorch-{VERSION}-{machine}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "libtorch.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another run of this script...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "build-version").is_file():
            fetch(machine, home)
        if not (LINK.is_symlink() and LINK.resolve() == home.resolve()):
            # Renamed into place, so that a build running meanwhile never misses the link.
            fresh = LINK.with_name(".libtorch.part")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(home.resolve())
            fresh.replace(LINK)
    print(f"libtorch {VERSION} is ready in {home}")


def main():
    # A terminated run must clean up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated\n  Nothing was kept; run it again."))
    # The same order as in torch-sys, which also looks only whether a variable is set.
    if "LIBTORCH_USE_PYTORCH" in os.environ:
        print("LIBTORCH_USE_PYTORCH is set: using the libtorch of Python's torch, nothing to fetch.")
    elif "LIBTORCH" in os.environ:
        check_own(Path(os.environ["LIBTORCH"]))
        print(f"LIBTORCH is set: using {os.environ['LIBTORCH']}, nothing to fetch.")
    else:
        provide()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted.", "Nothing was kept; run it again.")
    except (OSError, zipfile.BadZipFile) as error:
        fail(f"{error}.", "Nothing was kept. Mend that, or set XDG_CACHE_HOME to another folder, and run it again.")
