"""Static stand-ins for NVIDIA's libraries, which open the real ones at the first call.

candle links them dynamically, and a program that names `libcuda.so.1` does not start where there is no driver. For
`-lcuda` a linker takes `libcuda.a` from a folder without `libcuda.so`: this writes such archives, in which every name
is a jump through a slot that `dlopen` and `dlsym` fill. Where a library is missing, each of its functions returns
an error code, so that opening a device fails as it should.

usage: cuda_stand_ins.py TOOLKIT OUT CUDARC_DRIVER_BINDINGS
"""

import os
import platform
import re
import subprocess
import sys

RESOLVE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static const char *const names[] = {%(names)s};
__attribute__((visibility("hidden"))) void *%(prefix)s_slots[%(count)d];
static int missing(void) { return %(code)d; }
static void *library;
static int tried;
/* Looks in CUDA_LIB_DIRS, folders between colons, before the loader's own path. */
static void *search(void) {
  char path[4096];
  for (const char *folder = getenv("CUDA_LIB_DIRS"); folder && *folder;) {
    const char *end = strchr(folder, ':');
    int length = end ? (int)(end - folder) : (int)strlen(folder);
    snprintf(path, sizeof path, "%%.*s/%(file)s", length, folder);
    void *found = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (found) return found;
    folder = end ? end + 1 : 0;
  }
  return dlopen("%(file)s", RTLD_NOW | RTLD_GLOBAL);
}
__attribute__((visibility("hidden"))) void *%(prefix)s_resolve(unsigned long at) {
  if (!__atomic_load_n(&tried, __ATOMIC_ACQUIRE)) {
    /* Two threads may both search; they find the same. */
    __atomic_store_n(&library, search(), __ATOMIC_RELEASE);
    __atomic_store_n(&tried, 1, __ATOMIC_RELEASE);
  }
  void *open = __atomic_load_n(&library, __ATOMIC_ACQUIRE);
  void *function = open ? dlsym(open, names[at]) : 0;
  if (!function) function = (void *)missing;
  __atomic_store_n(&%(prefix)s_slots[at], function, __ATOMIC_RELEASE);
  return function;
}
"""

REGISTERS = ["rdi", "rsi", "rdx", "rcx", "r8", "r9", "rax"]


def common(prefix):
    """Saves the registers of arguments, asks for the function behind the number on the stack, and goes there."""
    lines = [".text", f"{prefix}_common:"]
    lines += [f"  pushq %{register}" for register in REGISTERS]
    lines += ["  subq $136, %rsp"]
    lines += [f"  movups %xmm{k}, {16 * k}(%rsp)" for k in range(8)]
    lines += ["  movq 192(%rsp), %rdi", f"  call {prefix}_resolve", "  movq %rax, %r11"]
    lines += [f"  movups {16 * k}(%rsp), %xmm{k}" for k in range(8)]
    lines += ["  addq $136, %rsp"]
    lines += [f"  popq %{register}" for register in reversed(REGISTERS)]
    lines += ["  addq $8, %rsp", "  jmp *%r11"]
    return lines


def jump(prefix, at, name):
    return [
        f".globl {name}", f".type {name},@function", f"{name}:",
        f"  movq {prefix}_slots+{8 * at}(%rip), %r11", "  testq %r11, %r11", "  je 1f", "  jmp *%r11",
        f"1: pushq ${at}", f"  jmp {prefix}_common",
    ]


def exported(path):
    table = subprocess.run(
        ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in table.splitlines()]
    names = {row[2].split("@")[0] for row in rows if len(row) == 3 and row[1] in "TWi"}
    return sorted(n for n in names if re.match(r"(cublas|curand|nvrtc|cuda|cudnn|__cuda)\w*$", n))


def write(out, library, file, code, names):
    prefix = f"stand_in_{library}"
    quoted = ",".join(f'"{name}"' for name in names)
    values = dict(names=quoted, file=file, code=code, count=len(names), prefix=prefix)
    lines = common(prefix)
    for at, name in enumerate(names):
        lines += jump(prefix, at, name)
    lines += ['.section .note.GNU-stack,"",@progbits', ""]
    for path, text in [(f"{prefix}.c", RESOLVE % values), (f"{prefix}_jumps.s", "\n".join(lines))]:
        with open(os.path.join(out, path), "w") as stream:
            stream.write(text)
    objects = [f"{prefix}.o", f"{prefix}_jumps.o"]
    run = lambda *command: subprocess.run(command, cwd=out, check=True)
    run("cc", "-O2", "-fPIC", "-c", f"{prefix}.c")
    run("cc", "-c", f"{prefix}_jumps.s")
    archive = f"lib{library}.a"
    if os.path.exists(os.path.join(out, archive)):
        os.remove(os.path.join(out, archive))
    run("ar", "crs", archive, *objects)


def main():
    toolkit, out, bindings = sys.argv[1:4]
    if platform.machine() != "x86_64":
        sys.exit(f"stand-ins are written for x86_64, found {platform.machine()}")
    os.makedirs(out, exist_ok=True)
    with open(bindings) as stream:
        driver = sorted(set(re.findall(r"\bfn (cu[A-Z]\w*)", stream.read())))
    # The code stands for no device, not initialized, or whatever of the kind the library has.
    write(out, "cuda", "libcuda.so.1", 100, driver)
    for library, folder, file, code in [
        ("cublas", "cu13", "libcublas.so.13", 1),
        ("cublasLt", "cu13", "libcublasLt.so.13", 1),
        ("curand", "cu13", "libcurand.so.10", 101),
        ("nvrtc", "cu13", "libnvrtc.so.13", 1),
        ("cudart", "cu13", "libcudart.so.13", 100),
        ("cudnn", "cudnn", "libcudnn.so.9", 1001),
    ]:
        names = exported(os.path.join(toolkit, "nvidia", folder, "lib", file))
        write(out, library, file, code, names)


main()
