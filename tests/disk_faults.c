/* A disk that fails on demand, for LD_PRELOAD: while the file that FAULTS_FILE names holds one of these words, files of
 * the store (FAULTS_STORE is in their path) cannot be
 *   sync      brought to the disk: EIO, after the bytes went into the cache
 *   full      written to: ENOSPC
 *   dead      read or written: EIO
 *   readonly  opened for writing or created: EROFS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int (*real_open)(const char *, int, ...);

static int faulty(const char *word)
{
    const char *path = getenv("FAULTS_FILE");
    char text[32] = "";
    if (!path)
        return 0;
    if (!real_open)
        real_open = dlsym(RTLD_NEXT, "open");
    int file = real_open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 && strncmp(text, word, strlen(word)) == 0;
}

static int is_of_store(const char *path)
{
    const char *store = getenv("FAULTS_STORE");
    return store && strstr(path, store) != NULL;
}

static int is_file_of_store(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_of_store(path);
}

static int sync_with(const char *name, int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    if (is_file_of_store(file) && faulty("sync")) {
        errno = EIO;
        return -1;
    }
    return real(file);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }

/* Whether a write or, with no fault of writing, a read fails; sets errno. */
static int fails(int file, const char *word, int error)
{
    if (!is_file_of_store(file))
        return 0;
    if (word && faulty(word)) {
        errno = error;
        return 1;
    }
    if (faulty("dead")) {
        errno = EIO;
        return 1;
    }
    return 0;
}

ssize_t read(int file, void *bytes, size_t length)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    return fails(file, NULL, 0) ? -1 : real(file, bytes, length);
}

ssize_t pread(int file, void *bytes, size_t length, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
    return fails(file, NULL, 0) ? -1 : real(file, bytes, length, at);
}

ssize_t pread64(int file, void *bytes, size_t length, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread64");
    return fails(file, NULL, 0) ? -1 : real(file, bytes, length, at);
}

ssize_t write(int file, const void *bytes, size_t length)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    return fails(file, "full", ENOSPC) ? -1 : real(file, bytes, length);
}

static ssize_t pwrite_with(const char *name, int file, const void *bytes, size_t length, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, name);
    return fails(file, "full", ENOSPC) ? -1 : real(file, bytes, length, at);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t at)
{
    return pwrite_with("pwrite", file, bytes, length, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off_t at)
{
    return pwrite_with("pwrite64", file, bytes, length, at);
}

static int open_with(const char *name, const char *path, int flags, mode_t mode)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (writes && is_of_store(path) && faulty("readonly")) {
        errno = EROFS;
        return -1;
    }
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_with("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_with("open64", path, flags, mode);
}
