// SPDX-License-Identifier: MIT
// One writer process per file: PATH.lock is held with flock(2), and says by whom. The file stays when
// the lock is given back: removing it would let two processes hold two files of one name.
#include "base/clock.h"
#include "store/store_int.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

static int refuse(const char *path, int fd, struct problems *problems)
{
    char text[64] = "";
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    struct str number = str_make(text, len < 0 ? 0 : (size_t)len);
    struct str since;
    uint64_t process;
    str_split(number, ' ', &number, &since);
    if (str_to_u64(number, &process) != 0) {
        // Between its lock and its text; or the text could not be written.
        return problems_add(problems, ERR_LOCKED, "", "%s is in use by another process", path);
    }
    return problems_add(problems, ERR_LOCKED, "", "%s is in use by process %llu", path,
                        (unsigned long long)process);
}

int store_lock_take(const char *path, int *fd, struct problems *problems)
{
    char name[4096];
    if (snprintf(name, sizeof name, "%s.lock", path) >= (int)sizeof name) {
        return problems_add(problems, ERR_INVALID, "", "the path of the store is too long");
    }
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) {
        return problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", name, strerrordesc_np(errno));
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        int err = errno == EWOULDBLOCK ? refuse(path, *fd, problems)
                                       : problems_add(problems, ERR_UNAVAILABLE, "", "%s: %s", name,
                                                      strerrordesc_np(errno));
        close(*fd);
        *fd = -1;
        return err;
    }
    char text[64];
    char since[CLOCK_ISO_LEN];
    clock_iso(since, clock_real_ns());
    int len = snprintf(text, sizeof text, "%ld %.*s\n", (long)getpid(), CLOCK_ISO_LEN, since);
    // The text is for people; the lock holds without it (a full disk).
    if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text, (size_t)len, 0) != len) {
        errno = 0;
    }
    return 0;
}

void store_lock_give(int *fd)
{
    if (*fd >= 0) {
        if (ftruncate(*fd, 0) != 0) {
            errno = 0; // a stale process number does no harm: nobody reads it without the lock held
        }
        close(*fd);
        *fd = -1;
    }
}
