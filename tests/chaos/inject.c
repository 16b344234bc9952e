/* Loaded before libc (LD_PRELOAD): counts the file calls of an armed process that touch one folder, and has the n-th
 * of them fail, kill the process, or find the disk full from then on. Built and driven by injection.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

enum call { WRITE, FSYNC, RENAME, LINK, UNLINK, OPEN, FLOCK, FTRUNCATE, MKDIR, STATVFS, CLOSE, READ };
enum action { COUNT, FAIL, KILL, FULL };
#define LETTERS "wsrluofTmvcR" /* of the calls, in the log */
#define LOG_BYTES (1 << 20)
#define BLOCK 4096

static char prefix[PATH_MAX];
static pid_t armed; /* a child between vfork and exec shares this memory, but not the process id */
static unsigned mask;
static long nth, seen, keep, free_bytes;
static int action, error_number, is_full;
static char log_text[LOG_BYTES]; /* a line for each call: its letter, and its path below the folder */
static size_t log_size;
static __thread char path_asked[PATH_MAX];

/* Counts calls of the kinds in `which` below `folder`; at number `n` (from 1; 0: never) does `what`. `kept` bytes of a
 * write are written before a kill or a full disk stops it, -1: half of them, -2: none. */
void chaos_arm(const char *folder, unsigned which, long n, int what, int error, long kept) {
    snprintf(prefix, sizeof prefix, "%s", folder);
    mask = which, nth = n, action = what, error_number = error, keep = kept;
    seen = free_bytes = is_full = 0;
    log_size = 0;
    armed = getpid();
}
const char *chaos_log(void) {
    armed = 0;
    log_text[log_size] = 0;
    return log_text;
}

static int is_below(const char *path) {
    size_t length = strlen(prefix);
    if (!path || strncmp(path, prefix, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
    snprintf(path_asked, sizeof path_asked, "%s", path + length);
    return 1;
}
static int is_open_below(int fd) {
    char link[64], path[PATH_MAX];
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = error;
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}
/* Whether this call is the one; counts it. Only calls of the armed process below the folder get here. */
static int is_nth(enum call call) {
    if (!(mask >> call & 1)) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (log_size + PATH_MAX + 3 < LOG_BYTES)
        log_size += snprintf(log_text + log_size, PATH_MAX + 3, "%c%s\n", LETTERS[call], path_asked);
    if (number != nth) return 0;
    if (action == FULL) is_full = 1;
    return action != COUNT;
}
#define ARMED(is_there) (armed && getpid() == armed && (is_there))
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* --- writing: the disk has room for what it holds already, and for what was removed since it was full --- */

static long kept_of(size_t size) {
    long bytes = keep == -2 ? 0 : keep < 0 ? (long)size / 2 : keep;
    return bytes < (long)size ? bytes : (long)size - 1;
}
static long needed_bytes(int fd, size_t size) {
    struct stat status;
    if (fstat(fd, &status)) return (long)size;
    off_t at = fcntl(fd, F_GETFL) & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
    off_t rounded = (status.st_size + BLOCK - 1) / BLOCK * BLOCK, held = status.st_blocks * 512;
    off_t reserved = held > rounded ? held : status.st_size;
    return at + (off_t)size > reserved ? at + (off_t)size - reserved : 0;
}
ssize_t write(int fd, const void *data, size_t size) {
    if (!ARMED(is_open_below(fd))) return NEXT(write)(fd, data, size);
    int hit = is_nth(WRITE);
    if (hit && action == KILL) {
        if (kept_of(size) > 0) NEXT(write)(fd, data, kept_of(size));
        die();
    }
    if (hit && action == FAIL) { errno = error_number; return -1; }
    if (is_full) {
        long needed = needed_bytes(fd, size);
        if (hit && needed && kept_of(size) > 0) return NEXT(write)(fd, data, kept_of(size));
        if (needed > free_bytes) { errno = error_number; return -1; }
        free_bytes -= needed;
    }
    return NEXT(write)(fd, data, size);
}
static int reserve(int fd, off_t offset, off_t size) {
    struct stat status;
    int hit = is_nth(WRITE);
    if (hit && action == KILL) die();
    if (hit && action == FAIL) return error_number;
    if (!is_full || fstat(fd, &status)) return 0;
    long needed = offset + size > status.st_size ? offset + size - status.st_size : 0;
    if (needed > free_bytes) return error_number;
    free_bytes -= needed;
    return 0;
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    int error = ARMED(is_open_below(fd)) ? reserve(fd, offset, size) : 0;
    return error ? error : NEXT(posix_fallocate64)(fd, offset, size);
}
int posix_fallocate(int fd, off_t offset, off_t size) {
    int error = ARMED(is_open_below(fd)) ? reserve(fd, offset, size) : 0;
    return error ? error : NEXT(posix_fallocate)(fd, offset, size);
}
static void freed(off_t bytes) { if (is_full && bytes > 0) free_bytes += bytes; }
static off_t size_of(const char *path) {
    struct stat status;
    return lstat(path, &status) || status.st_nlink > 1 ? 0 : status.st_size;
}

/* --- the others: fail or kill before they do anything; a failing close closes, as Linux does --- */

#define STOP(call, is_there, result)                                                                                   \
    if (ARMED(is_there) && is_nth(call)) {                                                                             \
        if (action == KILL) die();                                                                                     \
        if (action == FAIL) { errno = error_number; return result; }                                                   \
    }
#define REFUSE_IF_FULL(is_there) if (is_full && ARMED(is_there) && free_bytes <= 0) { errno = error_number; return -1; }

int fsync(int fd) { STOP(FSYNC, is_open_below(fd), -1) return NEXT(fsync)(fd); }
int fdatasync(int fd) { STOP(FSYNC, is_open_below(fd), -1) return NEXT(fdatasync)(fd); }
int flock(int fd, int operation) { STOP(FLOCK, is_open_below(fd), -1) return NEXT(flock)(fd, operation); }
ssize_t read(int fd, void *data, size_t size) {
    STOP(READ, is_open_below(fd), -1) return NEXT(read)(fd, data, size);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    STOP(READ, is_open_below(fd), -1) return NEXT(pread64)(fd, data, size, at);
}
static int cut(int fd, off_t size) {
    struct stat status;
    if (fstat(fd, &status) == 0 && is_open_below(fd)) freed(status.st_size - size);
    return NEXT(ftruncate64)(fd, size);
}
int ftruncate64(int fd, off64_t size) { STOP(FTRUNCATE, is_open_below(fd), -1) return cut(fd, size); }
int ftruncate(int fd, off_t size) { STOP(FTRUNCATE, is_open_below(fd), -1) return cut(fd, size); }
int close(int fd) {
    if (ARMED(is_open_below(fd)) && is_nth(CLOSE)) {
        if (action == KILL) die();
        if (action == FAIL) { NEXT(close)(fd); errno = error_number; return -1; }
    }
    return NEXT(close)(fd);
}

static int opened(const char *path, int flags, mode_t mode, int folder) {
    STOP(OPEN, is_below(path), -1)
    if ((flags & O_CREAT) && access(path, F_OK)) { REFUSE_IF_FULL(is_below(path)) }
    if ((flags & O_TRUNC) && is_full && is_below(path)) freed(size_of(path));
    return NEXT(openat64)(folder, path, flags, mode);
}
#define MODE_OF(flags, mode)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }
int open(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(path, flags, mode, AT_FDCWD); }
int open64(const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(path, flags, mode, AT_FDCWD); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(path, flags, mode, at); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags, mode) return opened(path, flags, mode, at); }

static void replaces(const char *to) { if (is_full && is_below(to)) freed(size_of(to)); }
int rename(const char *from, const char *to) {
    STOP(RENAME, is_below(to), -1) replaces(to);
    return NEXT(rename)(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    STOP(RENAME, is_below(to), -1) replaces(to);
    return NEXT(renameat)(a, from, b, to);
}
int link(const char *from, const char *to) { STOP(LINK, is_below(to), -1) return NEXT(link)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    STOP(LINK, is_below(to), -1) return NEXT(linkat)(a, from, b, to, flags);
}
int unlink(const char *path) {
    STOP(UNLINK, is_below(path), -1) replaces(path);
    return NEXT(unlink)(path);
}
int unlinkat(int at, const char *path, int flags) {
    STOP(UNLINK, is_below(path), -1) replaces(path);
    return NEXT(unlinkat)(at, path, flags);
}
int mkdir(const char *path, mode_t mode) {
    STOP(MKDIR, is_below(path), -1) REFUSE_IF_FULL(is_below(path)) return NEXT(mkdir)(path, mode);
}
int statvfs64(const char *path, struct statvfs64 *found) {
    STOP(STATVFS, is_below(path), -1)
    int result = NEXT(statvfs64)(path, found);
    if (is_full && ARMED(is_below(path))) found->f_bavail = found->f_bfree = 0;
    return result;
}
int statvfs(const char *path, struct statvfs *found) {
    STOP(STATVFS, is_below(path), -1)
    int result = NEXT(statvfs)(path, found);
    if (is_full && ARMED(is_below(path))) found->f_bavail = found->f_bfree = 0;
    return result;
}
