/* Loaded before the C library: a disk that fails. In the file that DISK_FAULTS names stand, read anew each time: the errno
 * (0 for none), how many of 100 operations fail, which ones (`l` looks at files and folders, `r` reads, `w` writes, `t` writes
 * half of it and fails), and the folder that they are in, as "5 30 lw /folder". */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static __thread unsigned long seed;

/* The errno that an operation on this path is to fail with; 0 for none. */
static int fault(char kind, const char *path) {
    char text[512] = {0}, kinds[8] = {0}, folder[400] = {0};
    int error = 0;
    unsigned percent = 0;
    const char *name = getenv("DISK_FAULTS");
    int file = name && path ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    if (syscall(SYS_read, file, text, sizeof text - 1) < 0) text[0] = 0;
    syscall(SYS_close, file);
    if (sscanf(text, "%d %u %7s %399s", &error, &percent, kinds, folder) != 4 || !error) return 0;
    size_t length = strlen(folder);
    if (!strchr(kinds, kind) || strncmp(path, folder, length)) return 0;
    if (path[length] && path[length] != '/') return 0;
    if (!seed) seed = ((unsigned long)&seed ^ ((unsigned long)syscall(SYS_gettid) * 2654435761UL)) | 1;
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (seed >> 24) % 100 < percent ? error : 0;
}

static int fault_at(char kind, int fd) {
    char link[32], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fault(kind, path);
}

#define FAIL(kind, path, answer) do { int e = fault(kind, path); if (e) { errno = e; return answer; } } while (0)
#define FAIL_AT(kind, fd, answer) do { int e = fault_at(kind, fd); if (e) { errno = e; return answer; } } while (0)

static char kind_of(int flags) { return (flags & O_ACCMODE) == O_RDONLY ? 'r' : 'w'; }

static mode_t mode_of(int flags, va_list list) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list list; va_start(list, flags); mode_t mode = mode_of(flags, list); va_end(list); \
        FAIL(kind_of(flags), path, -1); \
        return REAL(name, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int statx(int at, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
    /* Rust asks with no path at all whether there is such a call. */
    const char *volatile given = path;
    if (given && *given) FAIL('l', path, -1); else FAIL_AT('l', at, -1);
    return REAL(statx, at, path, flags, mask, out);
}
DIR *opendir(const char *path) { FAIL('l', path, NULL); return REAL(opendir, path); }
struct dirent64 *readdir64(DIR *dir) { FAIL_AT('l', dirfd(dir), NULL); return REAL(readdir64, dir); }

ssize_t read(int fd, void *to, size_t count) { FAIL_AT('r', fd, -1); return REAL(read, fd, to, count); }
ssize_t pread64(int fd, void *to, size_t count, off64_t at) { FAIL_AT('r', fd, -1); return REAL(pread64, fd, to, count, at); }

ssize_t write(int fd, const void *from, size_t count) {
    int torn = fault_at('t', fd);
    if (torn) { REAL(write, fd, from, count / 2); errno = torn; return -1; }
    FAIL_AT('w', fd, -1);
    return REAL(write, fd, from, count);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
    int torn = fault_at('t', fd);
    if (torn) { REAL(pwrite64, fd, from, count / 2, at); errno = torn; return -1; }
    FAIL_AT('w', fd, -1);
    return REAL(pwrite64, fd, from, count, at);
}
int fsync(int fd) { FAIL_AT('w', fd, -1); return REAL(fsync, fd); }
int fdatasync(int fd) { FAIL_AT('w', fd, -1); return REAL(fdatasync, fd); }
int ftruncate64(int fd, off64_t size) { FAIL_AT('w', fd, -1); return REAL(ftruncate64, fd, size); }
int rename(const char *from, const char *to) { FAIL('w', to, -1); return REAL(rename, from, to); }
int unlink(const char *path) { FAIL('w', path, -1); return REAL(unlink, path); }
int mkdir(const char *path, mode_t mode) { FAIL('w', path, -1); return REAL(mkdir, path, mode); }
