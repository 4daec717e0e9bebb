// SPDX-License-Identifier: MIT
// When to look. inotify tells of what happens in the folder; that another folder has taken its name (a
// swapped link, a mount) is seen by looking at it. Without inotify all files are looked at.
#include "base/array.h"
#include "base/hash.h"
#include "files/files_int.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_MAX = FILES_MAX }; // of files that are open; others are not waited for

void watch_init(struct watch *watch, const char *folder)
{
    *watch =
        (struct watch){.folder = folder, .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), .wd = -1};
}

void watch_fini(struct watch *watch)
{
    if (watch->fd >= 0) {
        close(watch->fd);
    }
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->names[i].name);
    }
    free(watch->names);
    *watch = (struct watch){.fd = -1, .wd = -1};
}

bool watch_renew(struct watch *watch)
{
    struct stat about;
    uint64_t sign = 0;
    if (stat(watch->folder, &about) == 0) {
        uint64_t parts[] = {about.st_dev, about.st_ino, 1};
        sign = hash_bytes(parts, sizeof parts);
    }
    if (sign == watch->sign) {
        return false;
    }
    watch->sign = sign;
    if (watch->fd >= 0 && watch->wd >= 0) {
        inotify_rm_watch(watch->fd, watch->wd);
    }
    watch->wd =
        sign == 0 || watch->fd < 0
            ? -1
            : inotify_add_watch(watch->fd, watch->folder,
                                IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM |
                                    IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF |
                                    IN_ONLYDIR | IN_EXCL_UNLINK);
    return true;
}

static size_t find_name(const struct watch *watch, const char *name)
{
    size_t i = 0;
    while (i < watch->count && strcmp(watch->names[i].name, name) != 0) {
        i++;
    }
    return i;
}

static void note_open(struct watch *watch, const char *name, uint64_t now_ms)
{
    size_t at = find_name(watch, name);
    if (at < watch->count) {
        watch->names[at].since_ms = now_ms;
        return;
    }
    if (watch->count == NAMES_MAX || !ARRAY_ROOM(watch->names, watch->count, watch->size, 16)) {
        return; // it is read when it is quiet
    }
    char *copy = str_dup(str_from_c(name));
    if (copy != NULL) {
        watch->names[watch->count++] = (struct watch_name){copy, now_ms};
    }
}

static void note_closed(struct watch *watch, const char *name)
{
    size_t at = find_name(watch, name);
    if (at < watch->count) {
        free(watch->names[at].name);
        watch->names[at] = watch->names[--watch->count];
    }
}

static void take(struct watch *watch, const struct inotify_event *event, uint64_t now_ms)
{
    if ((event->mask & IN_IGNORED) != 0 && event->wd == watch->wd) {
        watch->wd = -1; // the folder is gone; the next one may have its inode
        watch->sign = 0;
    }
    if (event->len == 0 || !folder_name_is_file(event->name)) {
        return;
    }
    if ((event->mask & IN_MODIFY) != 0) {
        note_open(watch, event->name, now_ms); // closed or renamed, it is whole
    } else if ((event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE)) != 0) {
        note_closed(watch, event->name);
    }
}

bool watch_read(struct watch *watch, uint64_t now_ms)
{
    bool has_changed = false;
    char events[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t len;
    while (watch->fd >= 0 && (len = read(watch->fd, events, sizeof events)) > 0) {
        // Links of hidden names count as well: files may lead through them.
        has_changed = true;
        for (const char *at = events; at < events + len;) {
            const struct inotify_event *event = (const void *)at;
            take(watch, event, now_ms);
            at += sizeof *event + event->len;
        }
    }
    return has_changed;
}

bool watch_is_open(const struct watch *watch, const char *name)
{
    return find_name(watch, name) < watch->count;
}

bool watch_expire(struct watch *watch, uint64_t now_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < watch->count; i++) {
        if (now_ms < watch->names[i].since_ms + FILES_OPEN_MS) {
            watch->names[kept++] = watch->names[i];
        } else {
            free(watch->names[i].name); // who holds it open for longer has written all there is
        }
    }
    bool has_expired = kept < watch->count;
    watch->count = kept;
    return has_expired;
}
