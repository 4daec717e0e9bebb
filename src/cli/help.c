// SPDX-License-Identifier: MIT
// Help texts, all from the table of commands.
#include "cli/cli.h"
#include "cli/command.h"
#include "model/config.h"

enum { LINE_WIDTH = 96, FLAG_COLUMN = 26 };

// Words of `text` in lines that begin with `indent` blanks; the cursor stands at `column` already.
static void print_wrapped(FILE *to, const char *text, int indent, int column)
{
    struct str rest = str_from_c(text);
    while (rest.len > 0) {
        struct str word;
        struct str tail;
        str_split(rest, ' ', &word, &tail);
        if (column > indent && column + 1 + (int)word.len > LINE_WIDTH) {
            fprintf(to, "\n%*s", indent, "");
            column = indent;
        }
        column += fprintf(to, "%s%.*s", column > indent ? " " : "", STR_ARG(word));
        rest = tail;
    }
    fputc('\n', to);
}

void help_print_usage(FILE *to, const struct command *command)
{
    fprintf(to, "usage: pointsman %s [FLAG]...%s%s\n", command->name,
            command->arguments[0] == '\0' ? "" : " ", command->arguments);
}

static void print_flag(FILE *to, const struct flag *flag)
{
    int column = fprintf(to, "  --%s%s%s", flag->name, flag->value != NULL ? " " : "",
                         flag->value != NULL ? flag->value : "");
    if (column >= FLAG_COLUMN) {
        fprintf(to, "\n%*s", FLAG_COLUMN, "");
    } else {
        fprintf(to, "%*s", FLAG_COLUMN - column, "");
    }
    print_wrapped(to, flag->help, FLAG_COLUMN, FLAG_COLUMN);
}

void help_print_command(FILE *to, const struct command *command)
{
    fprintf(to, "pointsman %s: %s\n\n", command->name, command->summary);
    help_print_usage(to, command);
    if (command->details[0] != '\0') {
        fputc('\n', to);
        print_wrapped(to, command->details, 0, 0);
    }
    fputs("\nFlags:\n", to);
    const struct flag *flag;
    for (unsigned i = 0; (flag = command_flag(command, i)) != NULL; i++) {
        print_flag(to, flag);
    }
    if (command->run == NULL) { // serve and check
        fputs("\nSettings:\n", to);
        config_print_help(to);
    }
    fputs("\nExample:\n", to);
    struct str rest = str_from_c(command->example);
    struct str line;
    while (rest.len > 0) {
        str_split(rest, '\n', &line, &rest);
        fprintf(to, "  %.*s\n", STR_ARG(line));
    }
}

static void print_summary(FILE *to, const struct command *command)
{
    fprintf(to, "  %-16s %s\n", command->name, command->summary);
}

void help_print_all(FILE *to)
{
    fputs("pointsman: a reverse proxy whose routes change while it runs\n\n"
          "usage: pointsman COMMAND [FLAG]... [ARGUMENT]...\n\n"
          "Commands:\n",
          to);
    const struct command *command;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        print_summary(to, command);
    }
    fputs("\n\"pointsman help COMMAND\" or \"pointsman COMMAND --help\" tells more.\n"
          "Exit status: 0 done, 1 failed, 2 wrong use.\n\n"
          "Example:\n"
          "  pointsman serve --demo\n",
          to);
}

void help_print_group(FILE *to, const char *group)
{
    fprintf(to, "usage: pointsman %s VERB [FLAG]... [ARGUMENT]...\n\nVerbs:\n", group);
    size_t len = strlen(group);
    const struct command *command;
    const struct command *first = NULL;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        if (strncmp(command->name, group, len) == 0 && command->name[len] == ' ') {
            print_summary(to, command);
            first = first == NULL ? command : first;
        }
    }
    if (first != NULL) {
        fprintf(to, "\nExample:\n  %s", first->example);
    }
}

const struct flag help_flags[] = {
    {"man", NULL, "print the manual page of all commands (roff)"},
    {"bash", NULL, "print the completion for bash"},
    {0},
};

int run_help(const struct args *args)
{
    if (args_flag(args, "man") != NULL) {
        help_print_man(stdout);
        return CLI_DONE;
    }
    if (args_flag(args, "bash") != NULL) {
        help_print_completion(stdout);
        return CLI_DONE;
    }
    if (args->word_count == 0) {
        help_print_all(stdout);
        return CLI_DONE;
    }
    unsigned words;
    const char *second = args->word_count > 1 ? args->words[1] : NULL;
    const struct command *command = command_find(args->words[0], second, &words);
    if (command != NULL && words == args->word_count) {
        help_print_command(stdout, command);
        return CLI_DONE;
    }
    if (args->word_count == 1 && command_is_group(args->words[0])) {
        help_print_group(stdout, args->words[0]);
        return CLI_DONE;
    }
    if (command != NULL) { // it has no verbs
        fprintf(stderr, "pointsman: there is no command \"%s %s\"; did you mean \"%s\"?\n",
                command->name, second, command->name);
        return CLI_WRONG_USE;
    }
    return second == NULL || !command_is_group(args->words[0])
               ? cli_refuse_name(NULL, args->words[0])
               : cli_refuse_name(args->words[0], second);
}
