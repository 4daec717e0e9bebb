// SPDX-License-Identifier: MIT
// What is in the folder. Links are followed: a swapped one changes what stat() says.
#include "base/array.h"
#include "base/hash.h"
#include "files/files_int.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void files_faults_init(struct files_faults *faults)
{
    *faults = (struct files_faults){.count = 0};
    buf_init(&faults->text, 0);
}

void files_faults_fini(struct files_faults *faults)
{
    buf_fini(&faults->text);
    faults->count = 0;
}

void files_fault(void *context, const char *place, const char *detail)
{
    struct files_faults *faults = context;
    if (faults->count++ < FILES_FAULTS_SHOWN) {
        buf_printf(&faults->text, "%s%s%s\n", place, place[0] == '\0' ? "" : ": ", detail);
    }
}

void files_faultf(struct files_faults *faults, const char *place, const char *format, ...)
{
    char detail[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    files_fault(faults, place, detail);
}

bool folder_name_is_file(const char *name)
{
    struct str text = str_from_c(name);
    // "#x.yaml#", "x.yaml~", "x.yaml.swp" end otherwise; ".#x.yaml" and ".x.yaml.swp" are hidden.
    return name[0] != '.' && name[0] != '#' &&
           (str_ends(text, STR(".yaml")) || str_ends(text, STR(".yml")) ||
            str_ends(text, STR(".json")));
}

char *folder_path(const char *folder, const char *name)
{
    struct buf path;
    buf_init(&path, 0);
    struct str base = str_from_c(folder);
    buf_put(&path, base);
    buf_put(&path, str_ends(base, STR("/")) ? STR("") : STR("/"));
    buf_put(&path, str_from_c(name));
    buf_put_char(&path, '\0');
    if (path.failed) {
        buf_fini(&path);
        return NULL;
    }
    return path.p;
}

static uint64_t sign(const struct stat *about)
{
    uint64_t parts[] = {about->st_dev,
                        about->st_ino,
                        (uint64_t)about->st_size,
                        (uint64_t)about->st_mtim.tv_sec,
                        (uint64_t)about->st_mtim.tv_nsec,
                        (uint64_t)about->st_ctim.tv_sec,
                        (uint64_t)about->st_ctim.tv_nsec};
    uint64_t result = hash_bytes(parts, sizeof parts);
    return result == 0 ? 1 : result; // 0 is "not read yet"
}

static int compare(const void *a, const void *b)
{
    const struct folder_entry *one = a;
    const struct folder_entry *other = b;
    return strcmp(one->name, other->name);
}

void folder_list_fini(struct folder_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    *list = (struct folder_list){.items = NULL};
}

static int add_entry(struct folder_list *list, const char *name, const struct stat *about)
{
    if (!ARRAY_ROOM(list->items, list->count, list->size, 64)) {
        return ERR_MEMORY;
    }
    struct folder_entry entry = {str_dup(str_from_c(name)), sign(about), (uint64_t)about->st_size};
    if (entry.name == NULL) {
        return ERR_MEMORY;
    }
    list->items[list->count++] = entry;
    return 0;
}

static int read_entries(DIR *directory, const char *folder, struct folder_list *list,
                        struct files_faults *faults)
{
    uint64_t bytes = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            break;
        }
        struct stat about = {.st_size = 0};
        if (!folder_name_is_file(entry->d_name)) {
            continue;
        }
        // Whose link leads nowhere is no file yet, or no more; of which nothing else can be told is one that
        // cannot be read.
        bool is_known = fstatat(dirfd(directory), entry->d_name, &about, 0) == 0;
        if ((!is_known && errno == ENOENT) || (is_known && S_ISDIR(about.st_mode))) {
            continue;
        }
        bytes += (uint64_t)about.st_size;
        if (list->count == FILES_MAX) {
            files_faultf(faults, folder,
                         "holds more than %d files of declarations; nothing of it is taken",
                         FILES_MAX);
            return ERR_LIMIT;
        }
        if (add_entry(list, entry->d_name, &about) != 0) {
            files_fault(faults, folder, "out of memory");
            return ERR_MEMORY;
        }
    }
    if (errno != 0) {
        // What was not listed is not gone.
        files_faultf(faults, folder, "the folder of declarations cannot be read: %s",
                     strerrordesc_np(errno));
        return ERR_NOT_FOUND;
    }
    if (bytes > FILES_BYTES_MAX) {
        files_faultf(faults, folder,
                     "its files hold %llu bytes, which is more than %d; nothing of it is taken",
                     (unsigned long long)bytes, FILES_BYTES_MAX);
        return ERR_LIMIT;
    }
    return 0;
}

int folder_list_read(const char *folder, struct folder_list *list, struct files_faults *faults)
{
    *list = (struct folder_list){.items = NULL};
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        files_faultf(faults, folder, "the folder of declarations cannot be read: %s",
                     strerrordesc_np(errno));
        return ERR_NOT_FOUND;
    }
    int err = read_entries(directory, folder, list, faults);
    closedir(directory);
    if (list->count > 0) {
        qsort(list->items, list->count, sizeof *list->items, compare);
    }
    for (size_t i = 0; i < list->count; i++) {
        uint64_t parts[] = {list->sign, list->items[i].sign,
                            hash_str(str_from_c(list->items[i].name))};
        list->sign = hash_bytes(parts, sizeof parts);
    }
    return err;
}

static int read_open(int fd, const char *path, struct buf *text, struct files_faults *faults)
{
    struct stat about;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        files_fault(faults, path, "is no file");
        return ERR_UNAVAILABLE;
    }
    // One byte more than is allowed tells that there is more.
    while (text->len <= FILES_FILE_MAX) {
        char *to = buf_reserve(text, 65536);
        ssize_t count = to == NULL ? -1 : read(fd, to, 65536);
        if (count <= 0) {
            if (count < 0) {
                files_faultf(faults, path, "cannot be read: %s",
                             to == NULL ? "out of memory" : strerrordesc_np(errno));
            }
            return count < 0 ? ERR_UNAVAILABLE : 0;
        }
        text->len += (size_t)count;
    }
    files_faultf(faults, path, "is larger than %d bytes: split it", FILES_FILE_MAX);
    return ERR_LIMIT;
}

int folder_read_file(const char *folder, const char *name, struct buf *text,
                     struct files_faults *faults)
{
    char *path = folder_path(folder, name);
    if (path == NULL) {
        files_fault(faults, name, "out of memory");
        return ERR_UNAVAILABLE;
    }
    // Not blocking: a pipe of that name must not hold the thread.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int err = ERR_UNAVAILABLE;
    if (fd < 0) {
        files_faultf(faults, path, "cannot be read: %s", strerrordesc_np(errno));
    } else {
        err = read_open(fd, path, text, faults);
        close(fd);
    }
    free(path);
    return err;
}
