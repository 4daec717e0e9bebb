// SPDX-License-Identifier: MIT
// pointsman import: what others keep in Redis, as declarations.
#include "base/hash.h"
#include "cli/cli.h"
#include "cli/import_int.h"
#include <inttypes.h>
#include <stdarg.h>

#define DRY_RUN                                                                    \
    {                                                                              \
        "dry-run", NULL,                                                           \
            "print the lines of the batch, and write nothing; the report goes to " \
            "standard error"                                                       \
    }
#define REDIS_CA                                                                            \
    {                                                                                       \
        "redis-ca", "FILE", "PEM file of whom rediss:// trusts (default: the system's CAs)" \
    }
#define REDIS_INSECURE                                              \
    {                                                               \
        "redis-insecure", NULL, "take any certificate of rediss://" \
    }

const struct flag import_flags[] = {
    {"prefix", "TEXT", "what the keys begin with (default: nothing)"},
    DRY_RUN,
    REDIS_CA,
    REDIS_INSECURE,
    {0},
};

const struct flag import_traefik_flags[] = {
    {"prefix", "TEXT", "rootKey of the provider (default: traefik)"},
    {"entry-point", "NAME",
     "an entry point that is for everybody, besides web, websecure, http and https; may be "
     "repeated"},
    DRY_RUN,
    REDIS_CA,
    REDIS_INSECURE,
    {0},
};

static const char *const level_names[IMPORT_LEVELS] = {"left_out", "changed", "ignored"};
static const char *const level_texts[IMPORT_LEVELS] = {"left out", "changed", "ignored"};

void import_tell(struct import *import, enum import_level level, struct str source,
                 const char *format, ...)
{
    char reason[IMPORT_REASON_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    import->told[level]++;
    struct buf line;
    buf_init(&line, 0);
    if (import->is_json) {
        buf_put(&line, STR("{\"key\":"));
        buf_put_json(&line, source);
        buf_printf(&line, ",\"result\":\"%s\",\"reason\":", level_names[level]);
        buf_put_json(&line, str_from_c(reason));
        buf_put_char(&line, '}');
    } else {
        buf_printf(&line, "%s %.*s: %s", level_texts[level], STR_ARG(source), reason);
        for (size_t i = 0; i < line.len; i++) {
            // No key can move the cursor of a terminal.
            line.p[i] = (unsigned char)line.p[i] < 0x20 || line.p[i] == 0x7f ? '?' : line.p[i];
        }
    }
    if (!line.failed) {
        fprintf(import->report, "%.*s\n", (int)line.len, line.p);
    }
    buf_fini(&line);
}

void import_fail(struct import *import, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!import->has_failed) {
        fputs("pointsman: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
    }
    va_end(arguments);
    import->has_failed = true;
}

// ---- what was seen ----

static bool put_hash(struct import_seen *seen, uint64_t hash)
{
    for (size_t i = hash & (seen->size - 1);; i = (i + 1) & (seen->size - 1)) {
        if (seen->slots[i] == hash) {
            return true;
        }
        if (seen->slots[i] == 0) {
            seen->slots[i] = hash;
            seen->count++;
            return false;
        }
    }
}

bool import_seen(struct import *import, struct import_seen *seen, struct str text)
{
    if (seen->count * 2 >= seen->size) {
        struct import_seen larger = {.size = seen->size == 0 ? 1024 : seen->size * 2};
        larger.slots = calloc(larger.size, sizeof *larger.slots);
        if (larger.slots == NULL) {
            import_fail(import, "out of memory");
            return true;
        }
        for (size_t i = 0; i < seen->size; i++) {
            if (seen->slots[i] != 0) {
                put_hash(&larger, seen->slots[i]);
            }
        }
        free(seen->slots);
        *seen = larger;
    }
    uint64_t hash = hash_str(text);
    return put_hash(seen, hash == 0 ? 1 : hash);
}

// ---- the end ----

static void show_json(const struct import *import)
{
    fprintf(import->report,
            "{\"routes\":%" PRIu64 ",\"pools\":%" PRIu64 ",\"certificates\":%" PRIu64
            ",\"created\":%" PRIu64 ",\"updated\":%" PRIu64 ",\"unchanged\":%" PRIu64
            ",\"refused\":%" PRIu64 ",\"left_out\":%" PRIu64 ",\"changed\":%" PRIu64
            ",\"ignored\":%" PRIu64 ",\"others\":%" PRIu64 "}\n",
            import->taken[NOUN_ROUTE], import->taken[NOUN_POOL], import->taken[NOUN_CERTIFICATE],
            import->created, import->updated, import->unchanged, import->refused,
            import->told[IMPORT_LEFT_OUT], import->told[IMPORT_CHANGED],
            import->told[IMPORT_IGNORED], import->others);
}

static void show(const struct import *import)
{
    if (import->is_json) {
        show_json(import);
        return;
    }
    fprintf(import->report,
            "%" PRIu64 " routes, %" PRIu64 " pools and %" PRIu64 " certificates taken",
            import->taken[NOUN_ROUTE], import->taken[NOUN_POOL], import->taken[NOUN_CERTIFICATE]);
    if (!import->is_dry_run) {
        fprintf(import->report, ": %" PRIu64 " created, %" PRIu64 " updated, %" PRIu64 " unchanged",
                import->created, import->updated, import->unchanged);
    }
    fprintf(import->report,
            "\n%" PRIu64 " left out, %" PRIu64 " changed, %" PRIu64 " ignored, %" PRIu64
            " other keys\n",
            import->told[IMPORT_LEFT_OUT], import->told[IMPORT_CHANGED],
            import->told[IMPORT_IGNORED], import->others);
}

// ---- the beginning ----

static int open_redis(struct import *import, const struct args *args)
{
    struct problems problems;
    problems_init(&problems);
    import->tls = (struct redis_tls){
        .ca_file = args_flag(args, "redis-ca"),
        .no_verify = args_flag(args, "redis-insecure") != NULL,
    };
    int status = CLI_DONE;
    if (redis_url_parse(&import->url, str_from_c(args->words[0]), &problems) != 0) {
        status = CLI_WRONG_USE;
    } else if (redis_sync_open(&import->redis, &import->url, &import->tls, IMPORT_TIMEOUT_MS,
                               &problems) != 0) {
        status = CLI_FAILED;
    }
    for (unsigned i = 0; i < problems.count; i++) {
        fprintf(stderr, "pointsman: %s\n", problems.items[i].detail);
    }
    problems_fini(&problems);
    return status;
}

static int run(struct import *import, const struct args *args, void (*kind)(struct import *))
{
    int status = open_redis(import, args);
    if (status == CLI_DONE && !import->is_dry_run) {
        status = client_open(args, &import->client);
    }
    if (status != CLI_DONE) {
        return status;
    }
    kind(import);
    import_flush(import);
    show(import);
    return import->has_failed || import->refused > 0 ? CLI_FAILED : CLI_DONE;
}

static int run_import(const struct args *args, const char *subject, const char *prefix,
                      void (*kind)(struct import *))
{
    const char *given = args_flag(args, "prefix");
    struct import import = {
        .subject = subject,
        .args = args,
        .prefix = str_from_c(given != NULL ? given : prefix),
        .is_dry_run = args_flag(args, "dry-run") != NULL,
        .is_json = args_flag(args, "json") != NULL,
    };
    import.report = import.is_dry_run ? stderr : stdout;
    hash_seed();
    import.ops = calloc(IMPORT_BATCH_LINES, sizeof *import.ops);
    int status = CLI_FAILED;
    if (import.ops == NULL) {
        import_fail(&import, "out of memory");
    } else {
        status = run(&import, args, kind);
    }
    import_free_ops(&import);
    free(import.ops);
    free(import.keys.slots);
    free(import.declarations.slots);
    client_close(&import.client);
    redis_sync_close(&import.redis);
    redis_url_fini(&import.url);
    return status;
}

int run_import_hipache(const struct args *args)
{
    return run_import(args, "hipache", "", import_hipache);
}

int run_import_auto_ssl(const struct args *args)
{
    return run_import(args, "auto-ssl", "", import_auto_ssl);
}

int run_import_traefik(const struct args *args)
{
    return run_import(args, "traefik", "traefik", import_traefik);
}
