// SPDX-License-Identifier: MIT
// From the words of the command line to a command of the table.
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/options.h"
#include "files/files.h"
#include "model/value.h"

enum { NAME_MAX_COUNT = 64 };

const struct flag version_flags[] = {{0}};

int run_version(const struct args *args)
{
    (void)args;
    puts("pointsman " POINTSMAN_VERSION);
    return CLI_DONE;
}

// What a node would refuse of the folder that it would serve.
static int check_files(const char *folder)
{
    struct files_faults faults;
    struct store_request *request = NULL;
    files_faults_init(&faults);
    int err = files_read(folder, NULL, &request, &faults);
    if (faults.text.len > 0) {
        fwrite(faults.text.p, 1, faults.text.len, stderr);
    }
    if (faults.count > FILES_FAULTS_SHOWN) {
        fprintf(stderr, "%s: %u more faults\n", folder, faults.count - FILES_FAULTS_SHOWN);
    }
    store_request_free(&request);
    files_faults_fini(&faults);
    return err;
}

static int check_config(int argc, char **argv)
{
    struct config config;
    struct serve_options options;
    struct problems problems;
    problems_init(&problems);
    int err = cli_parse_serve(argc, argv, &config, &options, &problems);
    bool is_good = err == 0;
    if (is_good && config_store_folder(&config) != NULL) {
        is_good = check_files(config_store_folder(&config)) == 0;
    }
    if (is_good) {
        puts("the configuration is fine");
    }
    // As compilers print faults: nothing in front of file:line:column.
    for (unsigned i = 0; i < problems.count; i++) {
        const struct problem *problem = &problems.items[i];
        fprintf(stderr, "%s%s%s\n", problem->pointer, problem->pointer[0] == '\0' ? "" : ": ",
                problem->detail);
    }
    config_fini(&config);
    problems_fini(&problems);
    return err == 0 && !is_good ? CLI_FAILED : cli_exit_status(err);
}

// The first words of all commands (group NULL), or the verbs of a group.
static unsigned list_names(const char *group, struct str names[NAME_MAX_COUNT])
{
    unsigned count = 0;
    const struct command *command;
    for (unsigned i = 0; count < NAME_MAX_COUNT && (command = command_at(i)) != NULL; i++) {
        struct str first;
        struct str verb;
        str_split(str_from_c(command->name), ' ', &first, &verb);
        if (group == NULL) {
            names[count++] = first;
        } else if (str_eq(first, str_from_c(group))) {
            names[count++] = verb;
        }
    }
    return count;
}

int cli_refuse_name(const char *group, const char *name)
{
    struct str names[NAME_MAX_COUNT];
    unsigned count = list_names(group, names);
    unsigned nearest = name_nearest(str_from_c(name), names, count);
    const char *front = group == NULL ? "" : group;
    const char *gap = group == NULL ? "" : " ";
    fprintf(stderr, "pointsman: there is no command \"%s%s%s\"", front, gap, name);
    if (nearest < count) {
        fprintf(stderr, "; did you mean \"%s%s%.*s\"?\n", front, gap, STR_ARG(names[nearest]));
    } else {
        fprintf(stderr, "; \"pointsman help%s%s\" lists them\n", group == NULL ? "" : " ", front);
    }
    return CLI_WRONG_USE;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct args args;
    struct problems problems;
    problems_init(&problems);
    int status;
    int err = args_parse(command, argc, argv, &args, &problems);
    if (err != 0) {
        cli_print_problems(&problems);
        help_print_usage(stderr, command);
        status = cli_exit_status(err);
    } else if (args.wants_help) {
        help_print_command(stdout, command);
        status = CLI_DONE;
    } else {
        status = command->run(&args);
    }
    args_fini(&args);
    problems_fini(&problems);
    return status;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        help_print_all(stderr);
        return CLI_WRONG_USE;
    }
    const char *first = argv[1];
    const char *second = argc > 2 ? argv[2] : NULL;
    if (is_help(first)) {
        help_print_all(stdout);
        return CLI_DONE;
    }
    if (strcmp(first, "--version") == 0) {
        return run_version(NULL);
    }
    if (strcmp(first, "check") == 0) {
        return check_config(argc - 1, argv + 1);
    }
    unsigned words;
    const struct command *command = command_find(first, second, &words);
    if (command != NULL && command->run != NULL) {
        return run_command(command, argc - 1 - (int)words, argv + 1 + words);
    }
    if (command == NULL && command_is_group(first)) {
        if (second == NULL || is_help(second)) {
            help_print_group(second == NULL ? stderr : stdout, first);
            return second == NULL ? CLI_WRONG_USE : CLI_DONE;
        }
        return cli_refuse_name(first, second);
    }
    return cli_refuse_name(NULL, first);
}

int cli_run(int argc, char **argv)
{
    int status = dispatch(argc, argv);
    // A full disk or a closed pipe behind standard output is a failure as well.
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("pointsman: cannot write");
        return status == CLI_DONE ? CLI_FAILED : status;
    }
    return status;
}
