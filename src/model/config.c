// SPDX-License-Identifier: MIT
// The table of settings, its defaults, flags and environment, and what only the whole can tell.
#include "model/config.h"
#include "model/config_int.h"
#include "model/config_table.h"

static const struct config_words paths_words_list = {{"strict", "loose", NULL}};
static const struct config_words access_log_words_list = {{"json", "combined", NULL}};
static const struct config_words tls_profile_words_list = {{"intermediate", "modern", NULL}};
static const struct config_words unknown_sni_words_list = {{"default", "reject", NULL}};
static const struct config_words log_words_list = {{"debug", "info", "warning", "error", NULL}};
#define log_words         &log_words_list
#define paths_words       &paths_words_list
#define tls_profile_words &tls_profile_words_list
#define unknown_sni_words &unknown_sni_words_list
#define access_log_words  &access_log_words_list

// clang-format off
const struct config_row config_rows[] = {
#define X(path, kind, member, initial, min, max, words, help) \
    {{path, sizeof path - 1}, KIND_##kind, offsetof(struct config, member), 0, initial, min, max, words, help},
#define L(path, kind, member, count, initial, help) \
    {{path, sizeof path - 1}, KIND_##kind, offsetof(struct config, member), offsetof(struct config, count), initial, 0, 0, NULL, help},
    CONFIG_TABLE(X, L)
#undef X
#undef L
};
// clang-format on

enum { ROW_COUNT = sizeof config_rows / sizeof config_rows[0] };
const unsigned config_row_count = ROW_COUNT;

// Short forms of variables.
static const struct {
    struct str variable;
    struct str path;
} variable_aliases[] = {
    {{"POINTSMAN_HTTP", 14}, {"listen.http", 11}},
    {{"POINTSMAN_HTTPS", 15}, {"listen.https", 12}},
    {{"POINTSMAN_ADMIN", 15}, {"admin.address", 13}},
    {{"POINTSMAN_STORE", 15}, {"store.url", 9}},
    {{"POINTSMAN_LOG", 13}, {"access_log.file", 15}},
    {{"POINTSMAN_CERYX", 15}, {"ceryx.enabled", 13}},
};
enum { ALIAS_COUNT = sizeof variable_aliases / sizeof variable_aliases[0] };

unsigned config_find(struct str path)
{
    unsigned i = 0;
    while (i < ROW_COUNT && !str_eq(config_rows[i].path, path)) {
        i++;
    }
    return i;
}

// "POINTSMAN_LIMITS_BODY" of "limits.body", terminated.
static void put_variable(struct str path, char *to, size_t size)
{
    size_t len = str_copy(to, size, STR("POINTSMAN_"));
    for (size_t i = 0; i < path.len && len + 1 < size; i++) {
        char c = path.p[i];
        to[len++] = c == '.' ? '_' : (char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
    to[len] = '\0';
}

int config_add_unknown(struct problems *problems, const char *pointer, struct str path)
{
    struct str names[ROW_COUNT];
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        names[i] = config_rows[i].path;
    }
    unsigned near = name_nearest(path, names, ROW_COUNT);
    if (near == ROW_COUNT) {
        return problems_add(problems, ERR_INVALID, pointer, "there is no setting \"%.*s\"",
                            path.len < 100 ? (int)path.len : 100, path.p);
    }
    return problems_add(problems, ERR_INVALID, pointer,
                        "there is no setting \"%.*s\"; did you mean \"%.*s\"?",
                        path.len < 100 ? (int)path.len : 100, path.p, STR_ARG(names[near]));
}

// A list in one text.
static int take_elements(struct config *config, const struct config_row *row, struct str text,
                         const char *pointer, struct problems *problems)
{
    int err = 0;
    while (text.len > 0 && err == 0) {
        struct str element;
        str_split(text, ',', &element, &text);
        element = str_trim(element);
        if (element.len > 0) {
            err = config_take_value(config, row, element, pointer, problems);
        }
    }
    return err;
}

static int set_row(struct config *config, const struct config_row *row, struct str text,
                   bool append, const char *pointer, struct problems *problems)
{
    if (!config_kind_is_list(row->kind)) {
        return config_take_value(config, row, text, pointer, problems);
    }
    if (!append) {
        config_clear_list(config, row);
    }
    return take_elements(config, row, text, pointer, problems);
}

int config_set(struct config *config, struct str path, struct str value, bool append,
               const char *origin, struct problems *problems)
{
    unsigned i = config_find(path);
    return i == ROW_COUNT ? config_add_unknown(problems, origin, path)
                          : set_row(config, &config_rows[i], value, append, origin, problems);
}

int config_init(struct config *config)
{
    *config = (struct config){0};
    struct problems problems;
    problems_init(&problems);
    config->admin.token = str_dup(STR(""));
    config->store.url = str_dup(STR("sqlite:"));
    int err = config->admin.token == NULL || config->store.url == NULL ? ERR_MEMORY : 0;
    for (unsigned i = 0; i < ROW_COUNT && err == 0; i++) {
        const struct config_row *row = &config_rows[i];
        err = set_row(config, row, str_from_c(row->initial), false, "", &problems);
    }
    problems_fini(&problems);
    if (err != 0) {
        config_fini(config);
    }
    config->listen.is_declared = false; // those were the default ones
    return err;
}

void config_fini(struct config *config)
{
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        if (config_kind_is_list(row->kind)) {
            config_clear_list(config, row);
        } else if (row->kind == KIND_TEXT || row->kind == KIND_PATH || row->kind == KIND_ADDRESS ||
                   row->kind == KIND_STORE) {
            free(*(char **)(void *)((char *)config + row->offset));
        }
    }
    if (config->admin.token != NULL) {
        explicit_bzero(config->admin.token, strlen(config->admin.token));
    }
    free(config->admin.token);
    *config = (struct config){0};
}

static int take_token(struct config *config, struct str value, struct problems *problems)
{
    char *token = str_dup(value);
    if (token == NULL) {
        return problems_add(problems, ERR_MEMORY, "POINTSMAN_TOKEN", "%s", err_text(ERR_MEMORY));
    }
    explicit_bzero(config->admin.token, strlen(config->admin.token));
    free(config->admin.token);
    config->admin.token = token;
    return 0;
}

static unsigned find_variable(struct str name)
{
    for (unsigned i = 0; i < ALIAS_COUNT; i++) {
        if (str_eq(name, variable_aliases[i].variable)) {
            return config_find(variable_aliases[i].path);
        }
    }
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        char variable[64];
        put_variable(config_rows[i].path, variable, sizeof variable);
        if (str_eq(name, str_from_c(variable))) {
            return i;
        }
    }
    return ROW_COUNT;
}

static int add_unknown_variable(struct problems *problems, const char *pointer, struct str name)
{
    char variables[ROW_COUNT][64];
    struct str names[ROW_COUNT + ALIAS_COUNT];
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        put_variable(config_rows[i].path, variables[i], sizeof variables[i]);
        names[i] = str_from_c(variables[i]);
    }
    for (unsigned i = 0; i < ALIAS_COUNT; i++) {
        names[ROW_COUNT + i] = variable_aliases[i].variable;
    }
    unsigned near = name_nearest(name, names, ROW_COUNT + ALIAS_COUNT);
    if (near == ROW_COUNT + ALIAS_COUNT) {
        return problems_add(problems, ERR_INVALID, pointer, "no setting has this variable");
    }
    return problems_add(problems, ERR_INVALID, pointer,
                        "no setting has this variable; did you mean %.*s?", STR_ARG(names[near]));
}

static int take_variable(struct config *config, struct str name, struct str value,
                         struct problems *problems)
{
    if (str_eq(name, STR("POINTSMAN_TOKEN"))) {
        return take_token(config, value, problems);
    }
    bool is_foreign =
        str_eq(name, STR("POINTSMAN_CONFIG")) || str_eq(name, STR("POINTSMAN_PORT")) ||
        str_starts(name, STR("POINTSMAN_PORT_")) || str_starts(name, STR("POINTSMAN_SERVICE_"));
    if (is_foreign) {
        return 0;
    }
    char pointer[128];
    str_copy(pointer, sizeof pointer, name);
    unsigned i = find_variable(name);
    return i == ROW_COUNT ? add_unknown_variable(problems, pointer, name)
                          : set_row(config, &config_rows[i], value, false, pointer, problems);
}

int config_read_environment(struct config *config, char **environment, struct problems *problems)
{
    int err = 0;
    for (unsigned i = 0; environment[i] != NULL; i++) {
        struct str name;
        struct str value;
        if (!str_split(str_from_c(environment[i]), '=', &name, &value) ||
            !str_starts(name, STR("POINTSMAN_"))) {
            continue;
        }
        int result = take_variable(config, name, value, problems);
        err = err != 0 ? err : result;
    }
    return err;
}

// Address number `i` of both lists, in order; NULL: there are no more.
static const char *address_at(const struct config *config, unsigned i, const char **list)
{
    *list = i < config->listen.http_count ? "listen.http" : "listen.https";
    return i < config->listen.http_count ? config->listen.http[i]
           : i - config->listen.http_count < config->listen.https_count
               ? config->listen.https[i - config->listen.http_count]
               : NULL;
}

int config_check(const struct config *config, struct problems *problems)
{
    int err = 0;
    if (config->listen.http_count + config->listen.https_count == 0) {
        err = problems_add(problems, ERR_INVALID, "listen", "there is no address to listen on");
    }
    if (config->dns.min_ttl_ms > config->dns.max_ttl_ms) {
        err = problems_add(problems, ERR_INVALID, "dns.min_ttl",
                           "must not be longer than dns.max_ttl");
    }
    const char *list;
    const char *text;
    for (unsigned i = 0; (text = address_at(config, i, &list)) != NULL; i++) {
        struct str address = str_from_c(text);
        // Port 0 is a new port each time.
        if (str_ends(address, STR(":0"))) {
            continue;
        }
        for (unsigned j = 0; j < i; j++) {
            const char *other;
            if (str_eq(address, str_from_c(address_at(config, j, &other)))) {
                err = problems_add(problems, ERR_INVALID, list, "%s is there twice", text);
                break;
            }
        }
        if (str_eq(address, str_from_c(config->admin.address))) {
            err = problems_add(problems, ERR_INVALID, "admin.address",
                               "%s is an address for traffic too", config->admin.address);
        }
    }
    return err;
}

bool config_table_next(unsigned i, struct config_setting *setting)
{
    if (i >= ROW_COUNT) {
        return false;
    }
    const struct config_row *row = &config_rows[i];
    *setting = (struct config_setting){.path = row->path,
                                       .type = config_kind_name(row->kind),
                                       .initial = row->initial,
                                       .help = row->help};
    config_format_range(row, setting->range_text, sizeof setting->range_text);
    setting->range = setting->range_text;
    put_variable(row->path, setting->variable, sizeof setting->variable);
    return true;
}

void config_print_help(FILE *file)
{
    struct config_setting setting;
    for (unsigned i = 0; config_table_next(i, &setting); i++) {
        fprintf(file, "  %.*s  (%s%s%s%s%s)\n      %s.\n", STR_ARG(setting.path), setting.type,
                setting.initial[0] == '\0' ? "" : ", default ", setting.initial,
                setting.range[0] == '\0' ? "" : "; ", setting.range, setting.help);
    }
}
