// SPDX-License-Identifier: MIT
// Into a folder: a file per kind, large ones split. All are written under hidden names, which no node
// reads, and renamed when the last is whole.
#include "cli/cli.h"
#include "cli/copy_int.h"
#include "cli/output.h"
#include "files/files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_LEN = 32 };

struct output {
    struct copy *copy;
    const char *path; // of the folder
    int folder;       // its descriptor
    FILE *file;       // NULL: none is open
    char name[NAME_LEN];
    unsigned in_file;            // declarations
    unsigned number[NOUN_COUNT]; // files
    uint64_t bytes;
};

static const enum noun nouns[] = {NOUN_CERTIFICATE, NOUN_POOL, NOUN_ROUTE};
enum { NOUNS = sizeof nouns / sizeof nouns[0] };

static int fail(const struct output *output, const char *what)
{
    fprintf(stderr, "pointsman: %s%s%s: %s\n", output->path, what[0] == '\0' ? "" : "/", what,
            strerrordesc_np(errno));
    return CLI_FAILED;
}

static int open_folder(struct output *output)
{
    if (mkdir(output->path, 0755) != 0 && errno != EEXIST) {
        return fail(output, "");
    }
    output->folder = open(output->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = opendir(output->path);
    if (output->folder < 0 || directory == NULL) {
        return fail(output, "");
    }
    unsigned count = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(directory);
    if (count > 0) {
        fprintf(stderr, "pointsman: %s is not empty\n", output->path);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

static void put_hidden(char to[NAME_LEN], enum noun noun, unsigned number)
{
    snprintf(to, NAME_LEN, ".%.*s-%04u.new", STR_ARG(noun_plural(noun)), number);
}

static void put_name(char to[NAME_LEN], enum noun noun, unsigned number, bool is_alone)
{
    struct str plural = noun_plural(noun);
    if (is_alone) {
        snprintf(to, NAME_LEN, "%.*s.yaml", STR_ARG(plural));
    } else {
        snprintf(to, NAME_LEN, "%.*s-%04u.yaml", STR_ARG(plural), number);
    }
}

static int begin_file(struct output *output, enum noun noun)
{
    output->in_file = 0;
    char hidden[NAME_LEN];
    put_hidden(hidden, noun, output->number[noun] + 1);
    put_name(output->name, noun, output->number[noun] + 1, false);
    // Keys of certificates are for the owner alone.
    mode_t mode = noun == NOUN_CERTIFICATE && output->copy->with_secrets ? 0600 : 0644;
    int fd = openat(output->folder, hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    output->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (output->file == NULL && fd >= 0) {
        close(fd);
    }
    output->number[noun] += fd >= 0;
    return output->file == NULL ? fail(output, output->name) : CLI_DONE;
}

static int end_file(struct output *output)
{
    long len = ftell(output->file);
    output->bytes += len < 0 ? 0 : (uint64_t)len;
    bool is_whole =
        fflush(output->file) == 0 && !ferror(output->file) && fsync(fileno(output->file)) == 0;
    is_whole &= fclose(output->file) == 0;
    output->file = NULL;
    return is_whole ? CLI_DONE : fail(output, output->name);
}

// A node that reads the folder already must not see a part of the copy: all files get their names at the end,
// or none.
static int name_files(const struct output *output, int status)
{
    for (unsigned n = 0; n < NOUNS; n++) {
        unsigned count = output->number[nouns[n]];
        for (unsigned i = 1; i <= count; i++) {
            char hidden[NAME_LEN];
            char name[NAME_LEN];
            put_hidden(hidden, nouns[n], i);
            put_name(name, nouns[n], i, count == 1);
            if (status == CLI_DONE && renameat(output->folder, hidden, output->folder, name) != 0) {
                status = fail(output, name);
            }
            if (status == CLI_DONE) {
                output->copy->files++;
            } else {
                unlinkat(output->folder, hidden, 0);
            }
        }
    }
    return status;
}

// What is declared, without what was found in the certificate; with its chain and key.
static json_t *certificate_value(const struct store_change *change, const json_t *stored)
{
    static const char *const names[] = {"chain", "key", "chain_file", "key_file", "hosts"};
    json_t *secret = change->secret == NULL ? NULL : json_loads(change->secret, 0, NULL);
    json_t *value = json_object();
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *member = json_object_get(stored, names[i]);
        member = member != NULL ? member : json_object_get(secret, names[i]);
        if (member != NULL) {
            json_object_set(value, names[i], member);
        }
    }
    json_decref(secret);
    return value;
}

static int put_declaration(const struct output *output, const struct store_change *change)
{
    json_t *stored = json_loads(change->value, 0, NULL);
    json_t *value =
        change->noun == NOUN_CERTIFICATE ? certificate_value(change, stored) : json_incref(stored);
    if (stored == NULL || value == NULL) {
        fprintf(stderr, "pointsman: %.*s %s cannot be read\n", STR_ARG(noun_name(change->noun)),
                change->key);
        json_decref(stored);
        json_decref(value);
        return CLI_FAILED;
    }
    fprintf(output->file, "---\nkind: %.*s\n", STR_ARG(noun_name(change->noun)));
    if (change->noun != NOUN_ROUTE) { // a route has its host
        json_t *name = json_pack("{s:s}", "name", change->key);
        output_yaml(name, output->file);
        json_decref(name);
    }
    output_yaml(value, output->file);
    json_decref(stored);
    json_decref(value);
    return ferror(output->file) == 0 ? CLI_DONE : fail(output, output->name);
}

static int put_noun(struct output *output, enum noun noun)
{
    const struct copy *copy = output->copy;
    int status = CLI_DONE;
    for (unsigned i = 0; i < copy->count && status == CLI_DONE; i++) {
        if (copy->changes[i].noun != noun) {
            continue;
        }
        if (output->file != NULL &&
            (output->in_file == COPY_ROUTES_PER_FILE || ftell(output->file) > COPY_FILE_BYTES)) {
            status = end_file(output);
        }
        if (status == CLI_DONE && output->file == NULL) {
            status = begin_file(output, noun);
        }
        if (status == CLI_DONE) {
            status = put_declaration(output, &copy->changes[i]);
            output->in_file++;
        }
    }
    if (output->file != NULL) {
        int end = end_file(output);
        status = status == CLI_DONE ? end : status;
    }
    return status;
}

int copy_write_folder(struct copy *copy)
{
    struct output output = {
        .copy = copy, .path = copy_path(copy->to, "file:"), .folder = -1, .file = NULL};
    int status = open_folder(&output);
    for (unsigned n = 0; n < NOUNS && status == CLI_DONE; n++) {
        status = put_noun(&output, nouns[n]);
    }
    status = name_files(&output, status);
    if (status == CLI_DONE && fsync(output.folder) != 0) {
        status = fail(&output, "");
    }
    if (output.bytes > FILES_BYTES_MAX || copy->files > FILES_MAX) {
        fprintf(
            stderr,
            "pointsman: %s holds %llu bytes; a node takes %d from a folder, so it can serve this "
            "copy in parts only\n",
            output.path, (unsigned long long)output.bytes, FILES_BYTES_MAX);
    }
    if (output.folder >= 0) {
        close(output.folder);
    }
    return status;
}
