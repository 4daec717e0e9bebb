// SPDX-License-Identifier: MIT
#include "admin/admin.h"
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKEN_BYTES = 32, TOKEN_LEN_MIN = 16, TOKEN_LEN_MAX = 512 };

static int fail_system(const char *path, const char *action, struct problems *problems)
{
    return problems_add(problems, ERR_SYSTEM, "", "cannot %s the token file %s: %s", action, path,
                        strerror(errno));
}

static int write_whole(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t done = write(fd, text, len);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return -1;
        }
        text += done;
        len -= (size_t)done;
    }
    return fsync(fd);
}

// Makes the file. 0; ERR_CONFLICT: it is there (made meanwhile); ERR_SYSTEM.
static int make_token(const char *path, struct problems *problems)
{
    unsigned char random[TOKEN_BYTES];
    char text[2 * TOKEN_BYTES + 2];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return errno == EEXIST ? ERR_CONFLICT : fail_system(path, "make", problems);
    }
    int err = 0;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        err = fail_system(path, "fill", problems);
    }
    for (size_t i = 0; i < TOKEN_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    }
    text[sizeof text - 2] = '\n';
    if (err == 0 && write_whole(fd, text, sizeof text - 1) != 0) {
        err = fail_system(path, "write", problems);
    }
    close(fd);
    if (err != 0) {
        unlink(path); // half a token would be refused at the next start
    }
    explicit_bzero(random, sizeof random);
    explicit_bzero(text, sizeof text);
    return err;
}

static int read_token(int fd, const char *path, char **token, struct problems *problems)
{
    char text[TOKEN_LEN_MAX + 2];
    size_t len = 0;
    while (len < sizeof text) {
        ssize_t got = read(fd, text + len, sizeof text - len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_system(path, "read", problems);
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' ')) {
        len--;
    }
    bool is_good = len >= TOKEN_LEN_MIN && len <= TOKEN_LEN_MAX;
    for (size_t i = 0; is_good && i < len; i++) {
        is_good = text[i] > ' ' && text[i] < 0x7f;
    }
    int err = 0;
    if (!is_good) {
        err =
            problems_add(problems, ERR_INVALID, "",
                         "the token file %s does not hold a token (%d to %d printable characters); "
                         "remove it and a new one is made",
                         path, TOKEN_LEN_MIN, TOKEN_LEN_MAX);
    } else {
        *token = str_dup(str_make(text, len));
        err = *token == NULL ? ERR_MEMORY : 0;
    }
    explicit_bzero(text, sizeof text);
    return err;
}

int admin_token_load(const char *path, char **token, struct problems *problems)
{
    *token = NULL;
    int err = make_token(path, problems);
    if (err == 0) {
        log_info("the token of the admin API was made in %s", path);
    } else if (err != ERR_CONFLICT) {
        return err;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return fail_system(path, "open", problems);
    }
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        err = fail_system(path, "look at", problems);
    } else if (!S_ISREG(stat.st_mode)) {
        err = problems_add(problems, ERR_INVALID, "", "the token file %s is not a regular file",
                           path);
    } else if ((stat.st_mode & 077) != 0) {
        err = problems_add(problems, ERR_INVALID, "",
                           "the token file %s may be read by others (mode %03o): "
                           "chmod 600 it, or remove it and a new one is made",
                           path, (unsigned)stat.st_mode & 0777);
    } else {
        err = read_token(fd, path, token, problems);
    }
    close(fd);
    return err;
}
