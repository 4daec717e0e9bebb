// SPDX-License-Identifier: MIT
// Flags and words: --name value, --name=value, switches, "--" ends the flags, "-" is a word.
#include "cli/command.h"
#include "model/value.h"

enum { FLAG_MAX = 64 };

static const struct flag *find_flag(const struct command *command, struct str name)
{
    const struct flag *flag;
    for (unsigned i = 0; (flag = command_flag(command, i)) != NULL; i++) {
        if (str_eq(str_from_c(flag->name), name)) {
            return flag;
        }
    }
    return NULL;
}

static int refuse_flag(const struct command *command, struct str name, struct problems *problems)
{
    struct str names[FLAG_MAX];
    const struct flag *flag;
    unsigned count = 0;
    while (count < FLAG_MAX && (flag = command_flag(command, count)) != NULL) {
        names[count++] = str_from_c(flag->name);
    }
    unsigned nearest = name_nearest(name, names, count);
    if (nearest < count) {
        return problems_add(problems, ERR_SYNTAX, "", "unknown flag --%.*s; did you mean --%.*s?",
                            STR_ARG(name), STR_ARG(names[nearest]));
    }
    return problems_add(problems, ERR_SYNTAX, "", "unknown flag --%.*s", STR_ARG(name));
}

// Takes the flag argv[*i] and its value.
static int take_flag(struct args *args, int argc, char **argv, int *i, struct problems *problems)
{
    struct str text = str_from_c(argv[*i]);
    struct str name = STR("help");
    struct str value = STR_NULL;
    bool has_value = false;
    if (!str_eq(text, STR("-h"))) {
        has_value = str_split(str_from(text, 2), '=', &name, &value);
    }
    const struct flag *flag = find_flag(args->command, name);
    if (flag == NULL) {
        return refuse_flag(args->command, name, problems);
    }
    const char *given = "";
    if (flag->value == NULL && has_value) {
        return problems_add(problems, ERR_SYNTAX, "", "--%s takes no value", flag->name);
    }
    if (flag->value != NULL) {
        if (!has_value && *i + 1 >= argc) {
            return problems_add(problems, ERR_SYNTAX, "", "--%s needs a value (%s)", flag->name,
                                flag->value);
        }
        given = has_value ? value.p : argv[++*i];
    }
    args->flags[args->flag_count++] = (struct arg){flag, given};
    args->wants_help = args->wants_help || strcmp(flag->name, "help") == 0;
    return 0;
}

static int check_words(const struct args *args, struct problems *problems)
{
    const struct command *command = args->command;
    if (args->word_count < command->argument_min) {
        return problems_add(problems, ERR_SYNTAX, "", "%s needs %s", command->name,
                            command->arguments);
    }
    if (args->word_count > command->argument_max) {
        return problems_add(problems, ERR_SYNTAX, "", "%s: unexpected argument \"%s\"",
                            command->name, args->words[command->argument_max]);
    }
    return 0;
}

int args_parse(const struct command *command, int argc, char **argv, struct args *args,
               struct problems *problems)
{
    *args = (struct args){.command = command};
    args->words = calloc((size_t)argc + 1, sizeof *args->words);
    args->flags = calloc((size_t)argc + 1, sizeof *args->flags);
    if (args->words == NULL || args->flags == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "out of memory");
    }
    bool is_over = false; // "--" was there
    int err = 0;
    for (int i = 0; i < argc; i++) {
        bool is_flag = strncmp(argv[i], "--", 2) == 0 || strcmp(argv[i], "-h") == 0;
        if (is_over || !is_flag) {
            if (!is_over && argv[i][0] == '-' && argv[i][1] != '\0') {
                err = problems_add(problems, ERR_SYNTAX, "", "unknown flag %s", argv[i]);
                continue;
            }
            args->words[args->word_count++] = argv[i];
        } else if (argv[i][2] == '\0' && argv[i][1] == '-') {
            is_over = true;
        } else {
            int flag_err = take_flag(args, argc, argv, &i, problems);
            err = flag_err != 0 ? flag_err : err;
        }
    }
    if (args->wants_help) {
        return 0;
    }
    return err != 0 ? err : check_words(args, problems);
}

void args_fini(struct args *args)
{
    free(args->words);
    free(args->flags);
    args->words = NULL;
    args->flags = NULL;
}

const char *args_flag(const struct args *args, const char *name)
{
    for (unsigned i = args->flag_count; i-- > 0;) {
        if (strcmp(args->flags[i].flag->name, name) == 0) {
            return args->flags[i].value;
        }
    }
    return NULL;
}

const char *args_next_flag(const struct args *args, const char *name, unsigned *index)
{
    while (*index < args->flag_count) {
        const struct arg *arg = &args->flags[(*index)++];
        if (strcmp(arg->flag->name, name) == 0) {
            return arg->value;
        }
    }
    return NULL;
}
