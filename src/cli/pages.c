// SPDX-License-Identifier: MIT
// The manual page and the completion for bash, from the table of commands.
#include "cli/command.h"
#include "model/config.h"

// Text for roff: what troff would read as a request or an escape is protected.
static void put_roff(FILE *to, const char *text)
{
    if (*text == '.' || *text == '\'') {
        fputs("\\&", to);
    }
    for (; *text != '\0'; text++) {
        if (*text == '\\') {
            fputs("\\e", to);
        } else if (*text == '-') {
            fputs("\\-", to);
        } else {
            fputc(*text, to);
        }
    }
}

static void put_man_command(FILE *to, const struct command *command)
{
    fputs(".SS pointsman ", to);
    put_roff(to, command->name);
    if (command->arguments[0] != '\0') {
        fputc(' ', to);
        put_roff(to, command->arguments);
    }
    fputc('\n', to);
    fputc((char)(command->summary[0] - ('a' - 'A')), to);
    put_roff(to, command->summary + 1);
    fputs(".\n", to);
    if (command->details[0] != '\0') {
        put_roff(to, command->details);
        fputc('\n', to);
    }
    const struct flag *flag;
    for (unsigned i = 0; (flag = command_flag(command, i)) != NULL; i++) {
        fputs(".TP\n\\fB\\-\\-", to);
        put_roff(to, flag->name);
        fputs("\\fR", to);
        if (flag->value != NULL) {
            fputs(" \\fI", to);
            put_roff(to, flag->value);
            fputs("\\fR", to);
        }
        fputc('\n', to);
        put_roff(to, flag->help);
        fputc('\n', to);
    }
    fputs(".PP\nExample:\n.PP\n.nf\n", to);
    struct str rest = str_from_c(command->example);
    struct str line;
    while (rest.len > 0) {
        str_split(rest, '\n', &line, &rest);
        char text[256];
        str_copy(text, sizeof text, line);
        fputs("    ", to);
        put_roff(to, text);
        fputc('\n', to);
    }
    fputs(".fi\n", to);
}

static void put_man_settings(FILE *to)
{
    struct config_setting setting;
    for (unsigned i = 0; config_table_next(i, &setting); i++) {
        char path[128];
        str_copy(path, sizeof path, setting.path);
        fputs(".TP\n\\fB", to);
        put_roff(to, path);
        fputs("\\fR (", to);
        put_roff(to, setting.type);
        if (setting.range[0] != '\0') {
            fputs(": ", to);
            put_roff(to, setting.range);
        }
        if (setting.initial[0] != '\0') {
            fputs("; default ", to);
            put_roff(to, setting.initial);
        }
        fputs(")\n", to);
        put_roff(to, setting.help);
        fputs(".\n", to);
    }
}

void help_print_man(FILE *to)
{
    fputs(".\\\" SPDX-License-Identifier: MIT\n"
          ".\\\" Made by: pointsman help \\-\\-man\n"
          ".TH POINTSMAN 1 \"\" \"pointsman " POINTSMAN_VERSION "\"\n"
          ".SH NAME\n"
          "pointsman \\- a reverse proxy whose routes change while it runs\n"
          ".SH SYNOPSIS\n"
          ".B pointsman\n"
          "\\fICOMMAND\\fR [\\fIFLAG\\fR]... [\\fIARGUMENT\\fR]...\n"
          ".SH DESCRIPTION\n"
          "\\fBpointsman serve\\fR carries HTTP traffic by a table of routes. All other commands "
          "but\n"
          "check, version and help talk to the admin API of a running server and change or show "
          "that\n"
          "table. A change is live on every worker when the command returns.\n"
          ".SH COMMANDS\n",
          to);
    const struct command *command;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        put_man_command(to, command);
    }
    fputs(".SH SETTINGS\n"
          "In the configuration file, as \\-\\-set PATH=VALUE, or as POINTSMAN_PATH with \"_\" for "
          "\".\".\n",
          to);
    put_man_settings(to);
    fputs(".SH EXIT STATUS\n"
          "0: done. 1: failed. 2: wrong use.\n"
          ".SH ENVIRONMENT\n"
          ".TP\n.B POINTSMAN_ADMIN\nThe admin address, for server and clients.\n"
          ".TP\n.B POINTSMAN_TOKEN\nThe token of the admin API. Without it the commands read the\n"
          "token file, where they can.\n"
          ".TP\n.B POINTSMAN_CONFIG\nThe configuration file, as \\-\\-config.\n"
          ".TP\n.B POINTSMAN_A_B\nThe setting a.b, for every setting.\n"
          ".SH FILES\n"
          ".TP\n.I admin.token\nThe token of the admin API, made at the first start.\n"
          ".TP\n.I pointsman.db\nThe declarations.\n",
          to);
}

static void put_case(FILE *to, const struct command *command)
{
    fprintf(to, "    \"%s\") words=\"", command->name);
    const struct flag *flag;
    for (unsigned i = 0; (flag = command_flag(command, i)) != NULL; i++) {
        fprintf(to, "%s--%s", i > 0 ? " " : "", flag->name);
    }
    fputs("\" ;;\n", to);
}

// The verbs of each group, once a group.
static void put_groups(FILE *to)
{
    const struct command *command;
    struct str last = STR_NULL;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        struct str group;
        struct str verb;
        if (!str_split(str_from_c(command->name), ' ', &group, &verb)) {
            continue;
        }
        if (!str_eq(group, last)) {
            fprintf(to, "%s    %.*s) words=\"", last.len > 0 ? "\" ;;\n" : "", STR_ARG(group));
        } else {
            fputc(' ', to);
        }
        fprintf(to, "%.*s", STR_ARG(verb));
        last = group;
    }
    fputs("\" ;;\n", to);
}

static void put_first_words(FILE *to)
{
    const struct command *command;
    struct str last = STR_NULL;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        struct str word;
        struct str verb;
        str_split(str_from_c(command->name), ' ', &word, &verb);
        if (!str_eq(word, last)) {
            fprintf(to, "%s%.*s", last.len > 0 ? " " : "", STR_ARG(word));
        }
        last = word;
    }
}

void help_print_completion(FILE *to)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# shellcheck shell=bash\n"
          "# Completion of pointsman for bash. Made by: pointsman help --bash\n"
          "_pointsman() {\n"
          "  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=\n"
          "  COMPREPLY=()\n"
          "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "    words=\"",
          to);
    put_first_words(to);
    fputs("\"\n"
          "  elif [ \"$COMP_CWORD\" -eq 2 ]; then\n"
          "    case $command in\n",
          to);
    put_groups(to);
    fputs("    esac\n"
          "  fi\n"
          "  if [ -z \"$words\" ] && [[ $current == -* ]]; then\n"
          "    case $command in\n"
          "    route | pool | cert | store | import) command=\"$command ${COMP_WORDS[2]}\" ;;\n"
          "    esac\n"
          "    case $command in\n",
          to);
    const struct command *command;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        put_case(to, command);
    }
    fputs("    esac\n"
          "  fi\n"
          "  if [ -n \"$words\" ]; then\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
          "  else\n"
          "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
          "  fi\n"
          "}\n"
          "complete -o filenames -F _pointsman pointsman\n",
          to);
}
