// SPDX-License-Identifier: MIT
// The options of `serve` and `check`: flags over environment over file, into one struct config.
#pragma once
#include "model/config.h"

enum { CLI_HELP = 1 };

struct serve_options {
    bool demo;
    const char *config_file; // into argv or the environment; NULL: none
};

// Reads the configuration as `serve` (argv[0]) or `check` shall see it; the words behind it are flags.
// `config` is initialised by this function; config_fini() in any case. The file is --config or
// POINTSMAN_CONFIG. Main thread.
// 0; CLI_HELP: the help was printed, exit with 0; ERR_SYNTAX: wrong use (exit status 2), ERR_INVALID: a
// setting is wrong (1), ERR_MEMORY; each with problems.
int cli_parse_serve(int argc, char **argv, struct config *config, struct serve_options *options,
                    struct problems *problems) WARN_UNUSED;
// "pointsman: pointer: detail" for each on standard error.
void cli_print_problems(const struct problems *problems);
// The exit status for an err of cli_parse_serve().
int cli_exit_status(int err);
