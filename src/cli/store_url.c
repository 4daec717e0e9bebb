// SPDX-License-Identifier: MIT
#include "cli/store_url.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { PASSWORD_MAX = 4096 };

static int parse(struct redis_url *url, const char *text, struct problems *problems)
{
    struct problems found;
    problems_init(&found);
    int err = redis_url_parse(url, str_from_c(text), &found);
    for (unsigned i = 0; i < found.count; i++) {
        problems_add(problems, err, "store.url", "%s", found.items[i].detail);
    }
    problems_fini(&found);
    return err;
}

static int read_password(struct redis_url *url, const char *path, struct problems *problems)
{
    char text[PASSWORD_MAX + 2];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return problems_add(problems, ERR_SYSTEM, "store.password_file", "%s: %s", path,
                            strerror(errno));
    }
    setvbuf(file, NULL, _IONBF, 0); // no other copy of it
    size_t len = fread(text, 1, sizeof text, file);
    bool is_broken = ferror(file) != 0;
    fclose(file);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    int err = 0;
    if (is_broken || len == 0 || len > PASSWORD_MAX || memchr(text, '\0', len) != NULL) {
        err = problems_add(problems, ERR_INVALID, "store.password_file",
                           "%s: must hold a password of 1 to %d bytes", path, PASSWORD_MAX);
    } else {
        char *password = str_dup(str_make(text, len));
        if (password == NULL) {
            err = problems_add(problems, ERR_MEMORY, "store.password_file", "out of memory");
        } else {
            explicit_bzero(url->password, strlen(url->password));
            free(url->password);
            url->password = password;
        }
    }
    explicit_bzero(text, sizeof text);
    return err;
}

int store_url_read(struct redis_url *url, const struct config *config, struct problems *problems)
{
    int err = parse(url, config->store.url, problems);
    return err != 0 || config->store.password_file[0] == '\0'
               ? err
               : read_password(url, config->store.password_file, problems);
}

struct redis_tls store_url_tls(const struct config *config)
{
    return (struct redis_tls){
        .ca_file = config->store.ca_file,
        .certificate_file = config->store.certificate_file,
        .key_file = config->store.key_file,
        .no_verify = !config->store.verify,
    };
}

static int check_file(const char *setting, const char *path, struct problems *problems)
{
    return path[0] == '\0' || access(path, R_OK) == 0
               ? 0
               : problems_add(problems, ERR_INVALID, setting, "%s: %s", path, strerror(errno));
}

static int check_tls(const struct config *config, bool is_tls, struct problems *problems)
{
    const struct redis_tls tls = store_url_tls(config);
    bool is_set = tls.ca_file[0] != '\0' || tls.certificate_file[0] != '\0' ||
                  tls.key_file[0] != '\0' || tls.no_verify;
    if (is_set && !is_tls) {
        return problems_add(problems, ERR_INVALID, "store.url",
                            "is not encrypted, but store.%s is for rediss: is rediss: meant?",
                            tls.ca_file[0] != '\0'            ? "ca_file"
                            : tls.certificate_file[0] != '\0' ? "certificate_file"
                            : tls.key_file[0] != '\0'         ? "key_file"
                                                              : "verify");
    }
    if ((tls.certificate_file[0] != '\0') != (tls.key_file[0] != '\0')) {
        return problems_add(problems, ERR_INVALID,
                            tls.key_file[0] == '\0' ? "store.key_file" : "store.certificate_file",
                            "is needed with the other one");
    }
    int err = check_file("store.ca_file", tls.ca_file, problems);
    int other = check_file("store.certificate_file", tls.certificate_file, problems);
    err = err != 0 ? err : other;
    other = check_file("store.key_file", tls.key_file, problems);
    return err != 0 ? err : other;
}

int store_url_check(const struct config *config, struct problems *problems)
{
    if (!config_store_is_redis(config)) {
        return 0;
    }
    struct redis_url url;
    int err = store_url_read(&url, config, problems);
    bool is_tls = url.is_tls;
    bool is_read = err == 0;
    redis_url_fini(&url);
    return is_read ? check_tls(config, is_tls, problems) : err;
}
