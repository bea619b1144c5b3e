/* Keeps, beside a folder, a copy of what of it would survive a loss of power: the bytes of each file as of
 * its last fsync or fdatasync, under the names that the folders had at their own last fsync.
 *
 * Preloaded into the process under test. One lock is held while a file is written and while it is
 * copied, so no copy has a byte that was not synced. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name, type) \
    static __typeof__(type) *real; \
    if (!real) real = (__typeof__(type) *)dlsym(RTLD_NEXT, name)

/* The path of an open file relative to the watched folder; 0 if it is elsewhere. */
static int inside(int fd, char *relative) {
    const char *folder = getenv("POWER_LOSS_FOLDER");
    char link[64], path[PATH_MAX];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(folder);
    if (strncmp(path, folder, prefix) != 0 || (path[prefix] != '/' && path[prefix] != 0)) return 0;
    snprintf(relative, PATH_MAX, "%s", path + prefix);
    return 1;
}

static ssize_t raw_write(int fd, const void *bytes, size_t count) {
    REAL("write", ssize_t(int, const void *, size_t));
    return real(fd, bytes, count);
}

/* Synced bytes are kept under .synced/ by inode number, and get their names when the folder is synced. */
static void store_path(char *out, unsigned long inode) {
    snprintf(out, PATH_MAX, "%s.inodes/%lu", getenv("POWER_LOSS_SHADOW"), inode);
}

static void copy_file(const char *from, const char *to) {
    char temporary[PATH_MAX + 8], buffer[65536];
    snprintf(temporary, sizeof temporary, "%s.new", to);
    int in = open(from, O_RDONLY), out = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t count;
    while (in >= 0 && (count = read(in, buffer, sizeof buffer)) > 0) raw_write(out, buffer, count);
    close(in);
    close(out);
    rename(temporary, to);
}

/* The names of a folder as they are now, with the bytes that each file had when it was last synced. */
static void sync_names(const char *relative) {
    char folder[PATH_MAX * 2], shadow[PATH_MAX * 2];
    snprintf(folder, sizeof folder, "%s%s", getenv("POWER_LOSS_FOLDER"), relative);
    snprintf(shadow, sizeof shadow, "%s%s", getenv("POWER_LOSS_SHADOW"), relative);
    mkdir(shadow, 0700);
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char here[PATH_MAX * 3], there[PATH_MAX * 3], store[PATH_MAX];
        struct stat status;
        if (entry->d_name[0] == '.') continue;
        snprintf(here, sizeof here, "%s/%s", folder, entry->d_name);
        snprintf(there, sizeof there, "%s/%s", shadow, entry->d_name);
        if (stat(here, &status) != 0) continue;
        if (S_ISDIR(status.st_mode)) {
            mkdir(there, 0700);
            continue;
        }
        store_path(store, status.st_ino);
        if (access(store, F_OK) == 0) {
            copy_file(store, there);
        } else {
            /* A name whose bytes were never synced: an empty file. */
            close(open(there, O_WRONLY | O_CREAT | O_TRUNC, 0600));
        }
    }
    if (dir) closedir(dir);
    /* Last, so that a rename that is interrupted here leaves the old name, and not none. */
    dir = opendir(shadow);
    while (dir && (entry = readdir(dir))) {
        char here[PATH_MAX * 3], there[PATH_MAX * 3];
        snprintf(here, sizeof here, "%s/%s", folder, entry->d_name);
        snprintf(there, sizeof there, "%s/%s", shadow, entry->d_name);
        if (access(here, F_OK) != 0) unlink(there);
    }
    if (dir) closedir(dir);
}

static void keep(int fd) {
    char relative[PATH_MAX], store[PATH_MAX], stores[PATH_MAX], path[64], named[PATH_MAX * 2];
    struct stat status;
    if (!inside(fd, relative) || fstat(fd, &status) != 0) return;
    if (S_ISDIR(status.st_mode)) {
        sync_names(relative);
        return;
    }
    snprintf(stores, sizeof stores, "%s.inodes", getenv("POWER_LOSS_SHADOW"));
    mkdir(stores, 0700);
    store_path(store, status.st_ino);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    copy_file(path, store);
    /* The name, where the folder already had it. */
    snprintf(named, sizeof named, "%s%s", getenv("POWER_LOSS_SHADOW"), relative);
    if (access(named, F_OK) == 0) copy_file(store, named);
}

int fsync(int fd) {
    REAL("fsync", int(int));
    pthread_mutex_lock(&lock);
    int result = real(fd);
    if (result == 0) keep(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

int fdatasync(int fd) {
    REAL("fdatasync", int(int));
    pthread_mutex_lock(&lock);
    int result = real(fd);
    if (result == 0) keep(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    char relative[PATH_MAX];
    if (!inside(fd, relative)) return raw_write(fd, bytes, count);
    pthread_mutex_lock(&lock);
    ssize_t result = raw_write(fd, bytes, count);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL("pwrite64", ssize_t(int, const void *, size_t, off64_t));
    char relative[PATH_MAX];
    if (!inside(fd, relative)) return real(fd, bytes, count, at);
    pthread_mutex_lock(&lock);
    ssize_t result = real(fd, bytes, count, at);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

int ftruncate64(int fd, off64_t length) {
    REAL("ftruncate64", int(int, off64_t));
    pthread_mutex_lock(&lock);
    int result = real(fd, length);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}
