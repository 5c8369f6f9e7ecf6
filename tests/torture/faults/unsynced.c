/* What a file held before each write that was not synced since, beside the file.
 *
 * Preloaded into a process. A kill -9 loses nothing that was written; a machine that
 * loses its power loses what was not synced. Whoever kills the process puts the old
 * bytes back, newest first, and so plays the second with the first. A record is written
 * before the write that it undoes: offset, size of the file and length as 64-bit
 * numbers, then the bytes. Only files whose path ends in UNSYNCED are watched; making
 * and removing files is left alone, and so is memory that is shared by mmap. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int ends_in(const char *text, const char *end) {
    size_t size = strlen(text), most = strlen(end);
    return size >= most && !strcmp(text + size - most, end);
}

/* The notes of a watched file, opened; -1 for any other. */
static int notes_of(int file, int flags) {
    char link[32], path[PATH_MAX + 16], wal[NAME_MAX];
    const char *watched = getenv("UNSYNCED");
    if (!watched) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX);
    if (size <= 0) return -1;
    path[size] = 0;
    snprintf(wal, sizeof wal, "%s-wal", watched);
    if (!ends_in(path, watched) && !ends_in(path, wal)) return -1;
    strcat(path, ".unsynced");
    return open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
}

static void note(int notes, int file, off64_t at, size_t length) {
    struct stat now;
    if (fstat(file, &now)) abort();
    int64_t kept = at < now.st_size ? now.st_size - at : 0;
    if ((int64_t)length < kept) kept = (int64_t)length;
    int64_t head[3] = {at, now.st_size, kept};
    char *record = malloc(sizeof head + (size_t)kept);
    if (!record) abort();
    memcpy(record, head, sizeof head);
    if (syscall(SYS_pread64, file, record + sizeof head, kept, at) != kept) abort();
    ssize_t all = (ssize_t)sizeof head + kept;
    if (syscall(SYS_write, notes, record, all) != all) abort();
    free(record);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    pthread_mutex_lock(&turn);
    int notes = notes_of(file, O_CREAT | O_APPEND);
    if (notes >= 0) {
        note(notes, file, at, length);
        close(notes);
    }
    ssize_t done = syscall(SYS_pwrite64, file, bytes, length, at);
    pthread_mutex_unlock(&turn);
    return done;
}

int ftruncate64(int file, off64_t size) {
    pthread_mutex_lock(&turn);
    int notes = notes_of(file, O_CREAT | O_APPEND);
    if (notes >= 0) {
        note(notes, file, size, SIZE_MAX >> 1);
        close(notes);
    }
    int failed = (int)syscall(SYS_ftruncate, file, size);
    pthread_mutex_unlock(&turn);
    return failed;
}

static int synced(int file, long how) {
    pthread_mutex_lock(&turn);
    int failed = (int)syscall(how, file);
    int notes = failed ? -1 : notes_of(file, O_TRUNC);
    if (notes >= 0) close(notes);
    pthread_mutex_unlock(&turn);
    return failed;
}

int fsync(int file) { return synced(file, SYS_fsync); }

int fdatasync(int file) { return synced(file, SYS_fdatasync); }
