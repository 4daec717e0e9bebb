// SPDX-License-Identifier: MIT
#include "publish/stored.h"
#include <time.h>

// Takes one byte.
static bool take(struct str *at, char c)
{
    if (at->len == 0 || at->p[0] != c) {
        return false;
    }
    *at = str_from(*at, 1);
    return true;
}

static bool read_text(struct str *at, struct str *text)
{
    if (!take(at, '"')) {
        return false;
    }
    size_t len = 0;
    while (len < at->len && at->p[len] != '"') {
        unsigned char c = (unsigned char)at->p[len];
        if (c < 0x20 || c >= 0x7f || c == '\\') {
            return false;
        }
        len++;
    }
    *text = str_sub(*at, 0, len);
    *at = str_from(*at, len);
    return take(at, '"');
}

static bool is_name(struct str name)
{
    struct str rest = str_starts(name, STR("*.")) ? str_from(name, 2) : name;
    if (str_eq(name, STR("*"))) {
        return true;
    }
    bool after_dot = true; // no empty label
    for (size_t i = 0; i < rest.len; i++) {
        char c = rest.p[i];
        bool is_dot = c == '.';
        if ((is_dot && after_dot) ||
            (!is_dot && !ascii_is_digit(c) && !(c >= 'a' && c <= 'z') && c != '-' && c != '_')) {
            return false;
        }
        after_dot = is_dot;
    }
    return rest.len > 0 && rest.len <= 253 && !after_dot;
}

static bool read_names(struct str *at, struct str *names, unsigned *count)
{
    *count = 0;
    if (!take(at, '[')) {
        return false;
    }
    do {
        if (*count == STORED_NAME_MAX || !read_text(at, &names[*count]) ||
            !is_name(names[(*count)++])) {
            return false;
        }
    } while (take(at, ','));
    return take(at, ']');
}

// "2026-01-31T12:00:00Z"
static bool read_time(struct str *at, uint64_t *seconds)
{
    static const char form[] = "0000-00-00T00:00:00Z";
    struct str text;
    if (!read_text(at, &text) || text.len != sizeof form - 1) {
        return false;
    }
    unsigned parts[6] = {0};
    unsigned part = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (form[i] != '0') {
            part++;
        }
        if (form[i] == '0' ? !ascii_is_digit(text.p[i]) : text.p[i] != form[i]) {
            return false;
        }
        if (form[i] == '0') {
            parts[part] = parts[part] * 10 + (unsigned)(text.p[i] - '0');
        }
    }
    if (parts[0] < 1970 || parts[1] < 1 || parts[1] > 12 || parts[2] < 1 || parts[2] > 31 ||
        parts[3] > 23 || parts[4] > 59 || parts[5] > 59) {
        return false;
    }
    struct tm tm = {.tm_year = (int)parts[0] - 1900,
                    .tm_mon = (int)parts[1] - 1,
                    .tm_mday = (int)parts[2],
                    .tm_hour = (int)parts[3],
                    .tm_min = (int)parts[4],
                    .tm_sec = (int)parts[5]};
    *seconds = (uint64_t)timegm(&tm);
    return tm.tm_mday == (int)parts[2]; // no 31st of April
}

static bool read_member(struct str *at, struct str name, struct stored_certificate *stored)
{
    struct certificate_decl *decl = &stored->decl;
    const struct {
        struct str name;
        struct str *to;
    } texts[] = {
        {STR("subject"), &decl->facts.subject},   {STR("issuer"), &decl->facts.issuer},
        {STR("serial"), &decl->facts.serial},     {STR("fingerprint"), &decl->facts.fingerprint},
        {STR("key_type"), &decl->facts.key_type}, {STR("content"), &decl->facts.content},
    };
    if (str_eq(name, STR("names"))) {
        return read_names(at, stored->names, &decl->name_count);
    }
    if (str_eq(name, STR("hosts"))) {
        return read_names(at, stored->hosts, &decl->host_count);
    }
    if (str_eq(name, STR("not_before"))) {
        return read_time(at, &decl->facts.not_before);
    }
    if (str_eq(name, STR("not_after"))) {
        return read_time(at, &decl->facts.not_after);
    }
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (str_eq(name, texts[i].name)) {
            return read_text(at, texts[i].to);
        }
    }
    return false; // files are few, and what a newer node wrote is not known here
}

bool stored_certificate_read(struct str value, struct stored_certificate *stored)
{
    struct str at = value;
    struct str name;
    stored->decl = (struct certificate_decl){.hosts = stored->hosts, .names = stored->names};
    if (!take(&at, '{')) {
        return false;
    }
    do {
        if (!read_text(&at, &name) || !take(&at, ':') || !read_member(&at, name, stored)) {
            return false;
        }
    } while (take(&at, ','));
    return take(&at, '}') && at.len == 0 && stored->decl.facts.not_after != 0;
}
