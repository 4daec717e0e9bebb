// SPDX-License-Identifier: MIT
#include "cli/options.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/store_url.h"
#include <unistd.h>

#define SETTING_FLAGS                                                                             \
    {"http", "ADDR", "listen for HTTP on HOST:PORT, :PORT or unix:/PATH; may be repeated"},       \
        {"https", "ADDR", "listen for HTTPS on HOST:PORT, :PORT or unix:/PATH; may be repeated"}, \
        {"admin", "ADDR", "listen for the admin API (POINTSMAN_ADMIN; default 127.0.0.1:8081)"},  \
        {"store", "URL",                                                                          \
         "where declarations are kept (POINTSMAN_STORE; default sqlite:pointsman.db)"},           \
        {"workers", "N", "threads that carry traffic (default: one a processor)"},                \
        {"log", "FILE", "access log; - is standard output, \"\" is none"},                        \
    {                                                                                             \
        "set", "a.b=VALUE", "any other setting, by its path; may be repeated"                     \
    }

const struct flag serve_flags[] = {
    {"config", "FILE", "read the settings from this YAML file (POINTSMAN_CONFIG)"},
    SETTING_FLAGS,
    {"demo", NULL, "start two small origins and three routes to them"},
    {0},
};

const struct flag check_flags[] = {
    {"config", "FILE", "the file to check (POINTSMAN_CONFIG)"},
    SETTING_FLAGS,
    {0},
};

// Flags that are settings.
static const struct short_form {
    const char *flag;
    const char *path;
    bool is_list; // a repeated flag adds to it
} short_forms[] = {
    {"http", "listen.http", true},     {"https", "listen.https", true},
    {"admin", "admin.address", false}, {"store", "store.url", false},
    {"workers", "workers", false},     {"log", "access_log.file", false},
};

enum { SHORT_FORM_COUNT = sizeof short_forms / sizeof short_forms[0] };

static int apply_set(struct config *config, const char *text, struct problems *problems)
{
    struct str path;
    struct str value;
    if (!str_split(str_from_c(text), '=', &path, &value) || path.len == 0) {
        return problems_add(problems, ERR_SYNTAX, "--set", "\"%s\" is not PATH=VALUE", text);
    }
    char origin[100];
    snprintf(origin, sizeof origin, "--set %.*s", STR_ARG(str_sub(path, 0, 80)));
    return config_set(config, path, value, false, origin, problems);
}

static int apply_flag(struct config *config, const struct arg *arg, unsigned *seen,
                      struct problems *problems)
{
    if (strcmp(arg->flag->name, "set") == 0) {
        return apply_set(config, arg->value, problems);
    }
    for (unsigned i = 0; i < SHORT_FORM_COUNT; i++) {
        const struct short_form *form = &short_forms[i];
        if (strcmp(form->flag, arg->flag->name) == 0) {
            char origin[32];
            snprintf(origin, sizeof origin, "--%s", form->flag);
            bool append = form->is_list && (*seen & 1u << i) != 0;
            *seen |= 1u << i;
            return config_set(config, str_from_c(form->path), str_from_c(arg->value), append,
                              origin, problems);
        }
    }
    return 0; // not a setting
}

// Whether ceryx.enabled will be set in the end, by the file (read already), the environment or a flag: the
// variables of Ceryx count only then. A wrong value is reported where it is read.
static bool wants_ceryx(const struct args *args, const struct config *config)
{
    bool is_wanted = config->ceryx.enabled;
    const char *variables[] = {getenv("POINTSMAN_CERYX"), getenv("POINTSMAN_CERYX_ENABLED")};
    for (unsigned i = 0; i < 2; i++) {
        is_wanted = variables[i] == NULL ? is_wanted : strcmp(variables[i], "true") == 0;
    }
    for (unsigned i = 0; i < args->flag_count; i++) {
        struct str text = str_from_c(args->flags[i].value);
        if (strcmp(args->flags[i].flag->name, "set") == 0 &&
            str_starts(text, STR("ceryx.enabled="))) {
            is_wanted = str_ends(text, STR("=true"));
        }
    }
    return is_wanted;
}

// All three sources, in order; all problems are collected.
static int read_sources(const struct args *args, struct config *config, const char *config_file,
                        struct problems *problems)
{
    int file_err = config_file == NULL ? 0 : config_read_file(config, config_file, problems);
    int ceryx_err = wants_ceryx(args, config) ? config_read_ceryx(config, environ, problems) : 0;
    int env_err = config_read_environment(config, environ, problems);
    int err = file_err != 0 ? file_err : ceryx_err != 0 ? ceryx_err : env_err;
    unsigned seen = 0;
    for (unsigned i = 0; i < args->flag_count; i++) {
        int flag_err = apply_flag(config, &args->flags[i], &seen, problems);
        err = err != 0 ? err : flag_err;
    }
    err = err != 0 ? err : config_check(config, problems);
    return err != 0 ? err : store_url_check(config, problems);
}

int cli_parse_serve(int argc, char **argv, struct config *config, struct serve_options *options,
                    struct problems *problems)
{
    *options = (struct serve_options){.demo = false};
    if (config_init(config) != 0) {
        return problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    unsigned words;
    const struct command *command = command_find(argv[0], NULL, &words);
    struct args args = {.command = command};
    int err = args_parse(command, argc - 1, argv + 1, &args, problems);
    if (err == 0 && args.wants_help) {
        help_print_command(stdout, command);
        err = CLI_HELP;
    } else if (err == 0) {
        const char *file = args_flag(&args, "config");
        const char *from_environment = getenv("POINTSMAN_CONFIG");
        if (file == NULL && from_environment != NULL && from_environment[0] != '\0') {
            file = from_environment;
        }
        options->config_file = file;
        options->demo = args_flag(&args, "demo") != NULL;
        err = read_sources(&args, config, file, problems);
        err = err == 0 || err == ERR_MEMORY ? err : ERR_INVALID;
    }
    args_fini(&args);
    return err;
}

void cli_print_problems(const struct problems *problems)
{
    for (unsigned i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        fprintf(stderr, "pointsman: %s%s%s\n", problem->pointer,
                problem->pointer[0] == '\0' ? "" : ": ", problem->detail);
    }
    if (problems->dropped > 0) {
        fprintf(stderr, "pointsman: and %u more\n", problems->dropped);
    }
}

int cli_exit_status(int err)
{
    return err >= 0 ? CLI_DONE : err == ERR_SYNTAX ? CLI_WRONG_USE : CLI_FAILED;
}
