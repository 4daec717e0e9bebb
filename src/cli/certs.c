// SPDX-License-Identifier: MIT
// pointsman cert …
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/objects.h"
#include <errno.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

const struct flag cert_list_flags[] = {
    {"limit", "N", "at most so many (default: all)"},
    {0},
};

const struct flag cert_put_flags[] = {
    {"chain", "FILE", "the certificate and its intermediates, PEM, the certificate first"},
    {"key", "FILE", "its private key, PEM"},
    {"host", "HOST", "choose it for this host (default: its names); may be repeated"},
    {"watch", NULL, "the server reads the files itself, and again whenever they change"},
    {0},
};

// Names in one cell: "shop.example.com, *.shop.example.com and 3 more".
static void put_names(struct table *table, const json_t *certificate)
{
    enum { SHOWN = 2 };
    struct buf text;
    buf_init(&text, 0);
    const json_t *names = json_object_get(certificate, "names");
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name)
    {
        if (i == SHOWN) {
            buf_printf(&text, " and %zu more", json_array_size(names) - i);
            break;
        }
        const char *one = json_string_value(name);
        buf_printf(&text, "%s%s", i > 0 ? ", " : "", one != NULL ? one : "?");
    }
    table_put(table, text.len > 0 ? buf_str(&text) : STR("-"));
    buf_fini(&text);
}

// "2027-01-31 (in 71 days)".
static void put_end(struct table *table, const json_t *certificate)
{
    enum { DAY_SEC = 86400 };
    const char *text = json_string_value(json_object_get(certificate, "not_after"));
    struct tm tm = {0};
    if (text == NULL || strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) == NULL) {
        table_put_c(table, text != NULL ? text : "-");
        return;
    }
    long long left = (long long)timegm(&tm) - (long long)time(NULL);
    if (left < 0) {
        table_putf(table, "%.10s (expired)", text);
    } else {
        table_putf(table, "%.10s (in %lld day%s)", text, left / DAY_SEC,
                   left / DAY_SEC == 1 ? "" : "s");
    }
}

// The common name of "CN=R3,O=Let's Encrypt,C=US" if there is a plain one, else all of it.
static void put_issuer(struct table *table, const json_t *certificate)
{
    struct str rest = str_from_c(json_string_value(json_object_get(certificate, "issuer")));
    struct str whole = rest;
    while (rest.len > 0) {
        struct str part;
        str_split(rest, ',', &part, &rest);
        if (str_starts(part, STR("CN=")) && str_find_char(part, '\\') == SIZE_MAX) {
            table_put(table, str_from(part, 3));
            return;
        }
    }
    table_put(table, whole.len > 0 ? whole : STR("-"));
}

static void put_row(struct table *table, const json_t *certificate)
{
    table_put_member(table, certificate, "name", "?");
    put_names(table, certificate);
    put_end(table, certificate);
    table_put_member(table, certificate, "key_type", "-");
    put_issuer(table, certificate);
}

// An authority of one's own often makes such ones, and they serve as client certificates of pools.
static const char *remark_names(const json_t *certificate)
{
    return json_array_size(json_object_get(certificate, "names")) > 0
               ? NULL
               : "it has no DNS names, so it is chosen for no host: --host declares some";
}

static const struct object_kind certificates = {
    .name = "certificate",
    .plural = "certificates",
    .columns = {"NAME", "HOSTS", "EXPIRES", "KEY", "ISSUER"},
    .column_count = 5,
    .put_row = put_row,
    .remark = remark_names,
};

int run_cert_list(const struct args *args)
{
    return objects_list(args, &certificates);
}

int run_cert_get(const struct args *args)
{
    return object_show(args, &certificates);
}

// A path as the server needs it: absolute, but with its symbolic links, which are what is turned over
// when a certificate is renewed.
static json_t *absolute_path(const char *path)
{
    if (path[0] == '/') {
        return json_string(path);
    }
    char folder[PATH_MAX];
    if (getcwd(folder, sizeof folder) == NULL) {
        fprintf(stderr, "pointsman: cannot tell the current folder: %s\n", strerror(errno));
        return NULL;
    }
    while (path[0] == '.' && path[1] == '/') {
        path += 2;
    }
    return json_sprintf("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path);
}

// Sets one of chain and key, or chain_file and key_file. 0, or -1: printed.
static int set_part(json_t *body, const struct args *args, const char *flag, bool is_watched)
{
    const char *path = args_flag(args, flag);
    if (path == NULL || (is_watched && strcmp(path, "-") == 0)) {
        fprintf(stderr, "pointsman: cert put needs --%s FILE\n", flag);
        return -1;
    }
    char name[32];
    snprintf(name, sizeof name, "%s%s", flag, is_watched ? "_file" : "");
    json_t *value = is_watched ? absolute_path(path) : text_file_read(path);
    return value == NULL ? -1 : json_object_set_new(body, name, value);
}

int run_cert_put(const struct args *args)
{
    json_t *body = json_object();
    bool is_watched = args_flag(args, "watch") != NULL;
    int err = set_part(body, args, "chain", is_watched);
    err = err != 0 ? err : set_part(body, args, "key", is_watched);
    const char *host;
    unsigned index = 0;
    while ((host = args_next_flag(args, "host", &index)) != NULL) {
        if (json_object_get(body, "hosts") == NULL) {
            json_object_set_new(body, "hosts", json_array());
        }
        json_array_append_new(json_object_get(body, "hosts"), json_string(host));
    }
    if (err != 0) {
        json_wipe_member(body, "key");
        json_decref(body);
        return CLI_WRONG_USE;
    }
    return object_put(args, &certificates, body);
}

int run_cert_rm(const struct args *args)
{
    return objects_remove(args, &certificates);
}
