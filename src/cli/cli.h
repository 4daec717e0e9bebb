// SPDX-License-Identifier: MIT
// The command line: every command but `serve`, which main.c runs itself with what cli/options.h reads.
#pragma once

// Exit status of the program.
enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_WRONG_USE = 2 };

// Runs the command that argv[1] names, but not "serve"; argv as main() got it. Writes to standard output
// and standard error. Returns the exit status. Main thread.
int cli_run(int argc, char **argv);
