// SPDX-License-Identifier: MIT
// The table of commands: the one source for dispatch, help, completion and the man page.
#pragma once
#include "model/problem.h"
#include <stdio.h>

struct args;

struct flag {
    const char *name;  // without "--"
    const char *value; // what stands for its value in the help; NULL: a switch
    const char *help;
};

enum command_kind {
    COMMAND_PLAIN,
    COMMAND_CLIENT, // talks to the admin API: takes --admin, --ca, --insecure and --config as well
    COMMAND_DATA,   // the same, and prints data: takes --json as well
};

struct command {
    const char *name;      // "route put"
    const char *arguments; // as shown
    const char *summary;
    const char *details;      // a paragraph, or ""
    const char *example;      // lines, each with its line feed
    const struct flag *flags; // ended by one without a name
    enum command_kind kind;
    bool has_wait; // takes --wait and --wait-timeout as well
    unsigned argument_min;
    unsigned argument_max;
    // Returns the exit status. NULL: serve and check, which read their flags into a struct config.
    int (*run)(const struct args *args);
};

// Commands in order, NULL at the end.
const struct command *command_at(unsigned index);
// By its words: "route" "put", or "status" alone (second may be NULL). *words: how many were used.
const struct command *command_find(const char *first, const char *second, unsigned *words);
// Does a name of two words begin with this one?
bool command_is_group(const char *first);
// Says on standard error that there is no such command, or no such verb of `group` (NULL: none), and which is
// nearest. CLI_WRONG_USE.
int cli_refuse_name(const char *group, const char *name);
// All flags that it takes, in order, NULL at the end.
const struct flag *command_flag(const struct command *command, unsigned index);

// The words behind a command. They live as long as argv.
struct arg {
    const struct flag *flag;
    const char *value; // "" for a switch
};

struct args {
    const struct command *command;
    const char **words; // those that are no flags
    unsigned word_count;
    struct arg *flags;
    unsigned flag_count;
    bool wants_help; // --help was there; nothing else was checked
};

// 0; ERR_SYNTAX or ERR_MEMORY with a problem. args_fini() in any case.
int args_parse(const struct command *command, int argc, char **argv, struct args *args,
               struct problems *problems) WARN_UNUSED;
void args_fini(struct args *args);
// The last value of a flag, or NULL.
const char *args_flag(const struct args *args, const char *name);
// The next value of a flag that may be repeated; *index begins with 0. NULL at the end.
const char *args_next_flag(const struct args *args, const char *name, unsigned *index);

// help.c
void help_print_all(FILE *to);
void help_print_group(FILE *to, const char *group);
void help_print_command(FILE *to, const struct command *command);
// "usage: pointsman …" on one line.
void help_print_usage(FILE *to, const struct command *command);
// pages.c: docs/man/pointsman.1 and deploy/completion/pointsman.bash.
void help_print_man(FILE *to);
void help_print_completion(FILE *to);

extern const struct flag serve_flags[];
extern const struct flag check_flags[];
extern const struct flag route_list_flags[];
extern const struct flag route_put_flags[];
extern const struct flag pool_list_flags[];
extern const struct flag pool_put_flags[];
extern const struct flag pool_drain_flags[];
extern const struct flag pool_switch_flags[];
extern const struct flag cert_list_flags[];
extern const struct flag cert_put_flags[];
extern const struct flag apply_flags[];
extern const struct flag export_flags[];
extern const struct flag store_copy_flags[];
extern const struct flag import_flags[];
extern const struct flag import_traefik_flags[];
extern const struct flag help_flags[];
extern const struct flag version_flags[];

int run_route_list(const struct args *args);
int run_route_get(const struct args *args);
int run_route_put(const struct args *args);
int run_route_rm(const struct args *args);
int run_pool_list(const struct args *args);
int run_pool_get(const struct args *args);
int run_pool_put(const struct args *args);
int run_pool_rm(const struct args *args);
int run_pool_drain(const struct args *args);
int run_pool_up(const struct args *args);
int run_pool_switch(const struct args *args);
int run_cert_list(const struct args *args);
int run_cert_get(const struct args *args);
int run_cert_put(const struct args *args);
int run_cert_rm(const struct args *args);
int run_apply(const struct args *args);
int run_export(const struct args *args);
int run_status(const struct args *args);
int run_nodes(const struct args *args);
int run_store_copy(const struct args *args);
int run_import_hipache(const struct args *args);
int run_import_auto_ssl(const struct args *args);
int run_import_traefik(const struct args *args);
int run_version(const struct args *args);
int run_help(const struct args *args);
