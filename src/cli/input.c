// SPDX-License-Identifier: MIT
#include "cli/input.h"
#include <errno.h>

static const char *shown_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

static int read_all(const char *path, struct buf *text)
{
    bool is_standard = strcmp(path, "-") == 0;
    FILE *file = is_standard ? stdin : fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "pointsman: cannot open %s: %s\n", path, strerror(errno));
        return -1;
    }
    char part[16384];
    size_t n;
    while ((n = fread(part, 1, sizeof part, file)) > 0 && !text->failed) {
        buf_put(text, str_make(part, n));
    }
    int err = ferror(file) ? errno : 0;
    if (!is_standard) {
        fclose(file);
    }
    if (err != 0 || text->failed) {
        fprintf(stderr, "pointsman: cannot read %s: %s\n", shown_name(path),
                err != 0 ? strerror(err) : "it is too long, or memory is out");
        return -1;
    }
    return 0;
}

void documents_print_fault(void *context, const char *place, const char *detail)
{
    (void)context;
    fprintf(stderr, "%s: %s\n", place[0] != '\0' ? place : "pointsman", detail);
}

int documents_read(struct documents *documents, const char *path)
{
    struct buf text;
    buf_init(&text, DOCUMENT_FILE_MAX);
    int err = read_all(path, &text);
    if (err == 0 && documents_parse(documents, path, buf_str(&text)) != 0) {
        err = -1;
    }
    buf_fini(&text);
    return err;
}

json_t *text_file_read(const char *path)
{
    struct buf text;
    buf_init(&text, TEXT_FILE_MAX);
    json_t *value = NULL;
    if (read_all(path, &text) == 0) {
        value = json_stringn(text.len > 0 ? text.p : "", text.len);
        if (value == NULL) {
            fprintf(stderr, "pointsman: %s is no text\n", shown_name(path));
        }
    }
    if (text.p != NULL) {
        explicit_bzero(text.p, text.len);
    }
    buf_fini(&text);
    return value;
}

void json_wipe_member(json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);
    if (json_is_string(member)) {
        explicit_bzero((char *)(uintptr_t)json_string_value(member), json_string_length(member));
    }
}
