// SPDX-License-Identifier: MIT
#include "cli/command.h"
#include "cli/options.h"
#include "cli/client.h"
#include "cli/route_body.h"
#include "model/declaration.h"
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

enum { WORD_MAX = 32 };

// Splits at blanks; argv[0] is the command. Static memory.
static int split_words(const char *text, char *argv[WORD_MAX])
{
    static char copy[2000];
    str_copy(copy, sizeof copy, str_from_c(text));
    int count = 0;
    for (char *rest = copy, *word; (word = strsep(&rest, " ")) != NULL;) {
        if (word[0] != '\0') {
            argv[count++] = word;
        }
    }
    argv[count] = NULL;
    return count;
}

struct parsed {
    struct config config;
    struct serve_options options;
    struct problems problems;
    int err;
};

static void parse(struct parsed *parsed, const char *text)
{
    char *argv[WORD_MAX];
    int argc = split_words(text, argv);
    problems_init(&parsed->problems);
    parsed->err = cli_parse_serve(argc, argv, &parsed->config, &parsed->options, &parsed->problems);
}

static void drop(struct parsed *parsed)
{
    config_fini(&parsed->config);
    problems_fini(&parsed->problems);
}

static void assert_problem(const struct parsed *parsed, const char *pointer, const char *detail)
{
    for (unsigned i = 0; i < parsed->problems.count; i++) {
        const struct problem *problem = &parsed->problems.items[i];
        if (strstr(problem->pointer, pointer) != NULL && strstr(problem->detail, detail) != NULL) {
            return;
        }
    }
    fail_msg("no problem %s: %s", pointer, detail);
}

static void test_defaults(void **state)
{
    (void)state;
    struct parsed parsed;
    parse(&parsed, "serve");
    assert_int_equal(parsed.err, 0);
    assert_false(parsed.options.demo);
    assert_null(parsed.options.config_file);
    assert_int_equal(parsed.config.listen.http_count, 1);
    assert_string_equal(parsed.config.listen.http[0], ":8080");
    assert_string_equal(parsed.config.admin.address, "127.0.0.1:8081");
    assert_string_equal(parsed.config.store.url, "sqlite:pointsman.db");
    drop(&parsed);
}

static void test_flags(void **state)
{
    (void)state;
    struct parsed parsed;
    parse(&parsed, "serve --http :80 --http=127.0.0.1:81 --admin unix:/run/pm.sock --workers 3 "
                   "--store sqlite:/var/x.db --log - --set limits.headers=50 --demo "
                   "--set timeouts.idle=5s --set=paths=loose");
    assert_int_equal(parsed.err, 0);
    assert_true(parsed.options.demo);
    assert_int_equal(parsed.config.listen.http_count, 2);
    assert_string_equal(parsed.config.listen.http[0], ":80");
    assert_string_equal(parsed.config.listen.http[1], "127.0.0.1:81");
    assert_string_equal(parsed.config.admin.address, "unix:/run/pm.sock");
    assert_string_equal(parsed.config.store.url, "sqlite:/var/x.db");
    assert_string_equal(parsed.config.access_log.file, "-");
    assert_int_equal(parsed.config.workers, 3);
    assert_int_equal(parsed.config.limits.headers, 50);
    assert_int_equal(parsed.config.timeouts.idle_ms, 5000);
    assert_int_equal(parsed.config.paths, PATHS_LOOSE);
    drop(&parsed);
}

// A configuration file with this text; returns its name (static memory).
static const char *write_config(const char *text)
{
    static char name[64];
    str_copy(name, sizeof name, STR("/tmp/test_cli_options.XXXXXX"));
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return name;
}

static void test_flag_over_environment_over_file(void **state)
{
    (void)state;
    const char *file = write_config("workers: 2\n"
                                    "limits: {headers: 40, connections: 1000}\n"
                                    "listen: {http: [\"127.0.0.1:1\", \"127.0.0.1:2\"]}\n"
                                    "timeouts: {idle: 7s}\n");
    setenv("POINTSMAN_WORKERS", "3", 1);
    setenv("POINTSMAN_LIMITS_HEADERS", "41", 1);
    char text[200];
    snprintf(text, sizeof text, "serve --workers 4 --config %s --http 127.0.0.1:9", file);
    struct parsed parsed;
    parse(&parsed, text);
    assert_int_equal(parsed.err, 0);
    assert_string_equal(parsed.options.config_file, file);
    assert_int_equal(parsed.config.workers, 4);
    assert_int_equal(parsed.config.limits.headers, 41);
    assert_int_equal(parsed.config.limits.connections, 1000);
    assert_int_equal(parsed.config.timeouts.idle_ms, 7000);
    assert_int_equal(parsed.config.listen.http_count, 1); // --http replaces the file's list
    assert_string_equal(parsed.config.listen.http[0], "127.0.0.1:9");
    drop(&parsed);

    // The file by the environment.
    setenv("POINTSMAN_CONFIG", file, 1);
    parse(&parsed, "check");
    assert_int_equal(parsed.err, 0);
    assert_string_equal(parsed.options.config_file, file);
    assert_int_equal(parsed.config.workers, 3);
    assert_int_equal(parsed.config.listen.http_count, 2);
    drop(&parsed);
    unsetenv("POINTSMAN_CONFIG");
    unsetenv("POINTSMAN_WORKERS");
    unsetenv("POINTSMAN_LIMITS_HEADERS");
    unlink(file);
}

static void test_wrong_use(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *detail;
    } rows[] = {
        {"serve --htp :80", "did you mean --http?"},
        {"serve --zzzzzz", "unknown flag --zzzzzz"},
        {"serve -x", "unknown flag -x"},
        {"serve --http", "--http needs a value"},
        {"serve --demo=yes", "takes no value"},
        {"serve here", "unexpected argument \"here\""},
        {"check --demo", "unknown flag --demo"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct parsed parsed;
        parse(&parsed, rows[i].text);
        assert_int_equal(parsed.err, ERR_SYNTAX);
        assert_int_equal(cli_exit_status(parsed.err), 2);
        assert_problem(&parsed, "", rows[i].detail);
        drop(&parsed);
    }
}

static void test_wrong_settings(void **state)
{
    (void)state;
    struct parsed parsed;
    const char *file = write_config("workers: 2\nlimits:\n  heders: 40\n");
    char text[200];
    snprintf(text, sizeof text, "serve --config %s --workers many --set x --set no.such=1", file);
    parse(&parsed, text);
    assert_int_equal(parsed.err, ERR_INVALID);
    assert_int_equal(cli_exit_status(parsed.err), 1);
    char pointer[100];
    snprintf(pointer, sizeof pointer, "%s:3:3", file);
    assert_problem(&parsed, pointer, "headers");
    assert_problem(&parsed, "--workers", "many");
    assert_problem(&parsed, "--set", "is not PATH=VALUE");
    assert_problem(&parsed, "--set", "no.such");
    drop(&parsed);
    unlink(file);
    parse(&parsed, "serve --config /nonexistent/pointsman.yaml");
    assert_int_equal(parsed.err, ERR_INVALID);
    drop(&parsed);
}

static void test_words_and_flags(void **state)
{
    (void)state;
    unsigned words;
    const struct command *command = command_find("route", "put", &words);
    assert_non_null(command);
    assert_int_equal(words, 2);
    char *argv[WORD_MAX];
    int argc = split_words("a.example --allow 10.0.0.0/8 - --allow=::/0 --json -- --pool", argv);
    struct args args;
    struct problems problems;
    problems_init(&problems);
    assert_int_equal(args_parse(command, argc, argv, &args, &problems), 0);
    assert_int_equal(args.word_count, 3);
    assert_string_equal(args.words[0], "a.example");
    assert_string_equal(args.words[1], "-");
    assert_string_equal(args.words[2], "--pool");
    assert_string_equal(args_flag(&args, "allow"), "::/0");
    assert_string_equal(args_flag(&args, "json"), "");
    assert_null(args_flag(&args, "pool"));
    unsigned index = 0;
    assert_string_equal(args_next_flag(&args, "allow", &index), "10.0.0.0/8");
    assert_string_equal(args_next_flag(&args, "allow", &index), "::/0");
    assert_null(args_next_flag(&args, "allow", &index));
    args_fini(&args);

    argc = split_words("--limit", argv);
    assert_int_equal(args_parse(command_find("pool", "list", &words), argc, argv, &args, &problems),
                     ERR_SYNTAX);
    args_fini(&args);
    argc = split_words("--help --nonsense", argv); // help wins over what else is wrong
    assert_int_equal(args_parse(command, argc, argv, &args, &problems), 0);
    assert_true(args.wants_help);
    args_fini(&args);
    problems_fini(&problems);
}

static void test_commands(void **state)
{
    (void)state;
    unsigned words;
    assert_null(command_find("route", NULL, &words));
    assert_null(command_find("route", "nonsense", &words));
    assert_null(command_find("nonsense", NULL, &words));
    assert_non_null(command_find("status", "--json", &words));
    assert_int_equal(words, 1);
    assert_true(command_is_group("pool"));
    assert_false(command_is_group("status"));
    const struct command *command;
    for (unsigned i = 0; (command = command_at(i)) != NULL; i++) {
        assert_true(strlen(command->summary) > 0);
        assert_true(strlen(command->example) > 0);
        unsigned helps = 0;
        const struct flag *flag;
        for (unsigned k = 0; (flag = command_flag(command, k)) != NULL; k++) {
            helps += strcmp(flag->name, "help") == 0;
            assert_true(strlen(flag->help) > 0);
        }
        assert_int_equal(helps, 1);
    }
}

// The JSON that a command makes of its flags; malloc.
static char *make_json(const char *verb, const char *text, json_t *(*make)(const struct args *))
{
    char *argv[WORD_MAX];
    unsigned words;
    struct args args;
    struct problems problems;
    problems_init(&problems);
    int argc = split_words(text, argv);
    assert_int_equal(args_parse(command_find("pool", verb, &words), argc, argv, &args, &problems),
                     0);
    json_t *made = make(&args);
    char *json = json_dumps(made, JSON_COMPACT);
    json_decref(made);
    args_fini(&args);
    problems_fini(&problems);
    return json;
}

static void test_pool_flags(void **state)
{
    (void)state;
    char *json = make_json("put",
                           "web 10.0.0.5:80=3 unix:/x --balance hash --hash header:x-a --sticky pm "
                           "--health /up --health-interval 1s --health-timeout 500ms "
                           "--health-status 204 --health-type http",
                           pool_body);
    assert_string_equal(
        json, "{\"balance\":\"hash\",\"hash\":\"header:x-a\",\"sticky\":{\"cookie\":\"pm\"},"
              "\"health\":{\"path\":\"/up\",\"interval\":\"1s\",\"timeout\":\"500ms\","
              "\"status\":\"204\",\"type\":\"http\"},"
              "\"targets\":[{\"address\":\"10.0.0.5:80\",\"weight\":3},"
              "{\"address\":\"unix:/x\"}]}");
    // What the flags make is what a pool may be.
    struct problems problems;
    struct declaration *declaration;
    problems_init(&problems);
    json_t *value = json_loads(json, 0, NULL);
    assert_int_equal(declaration_decode(NOUN_POOL, STR("web"), value, DECODE_STRICT, &declaration,
                                        NULL, &problems),
                     0);
    declaration_free(&declaration);
    json_decref(value);
    problems_fini(&problems);
    free(json);
    json = make_json("put",
                     "web --max-fails 0 --slow-start 30s --requests-per-target 5 --queue 10 "
                     "--queue-timeout 2s --retry-budget 100 --request-timeout 1m",
                     pool_body);
    assert_string_equal(json, "{\"passive\":{\"max_fails\":0},\"slow_start\":\"30s\","
                              "\"limits\":{\"requests_per_target\":5,\"queue\":10,"
                              "\"queue_timeout\":\"2s\"},\"retry_budget\":100,"
                              "\"timeouts\":{\"request\":\"1m\"}}");
    free(json);
}

static void test_switch_targets(void **state)
{
    (void)state;
    char *json = make_json("switch", "web --to a:1=2,b:2,, --to=[::1]:3", switch_targets);
    assert_string_equal(json, "[{\"address\":\"a:1\",\"weight\":2},{\"address\":\"b:2\"},"
                              "{\"address\":\"[::1]:3\"}]");
    free(json);
    json = make_json("switch", "web", switch_targets);
    assert_string_equal(json, "[]");
    free(json);
}

static void test_client_address(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"127.0.0.1:8081", "127.0.0.1:8081"},   {":8081", "127.0.0.1:8081"},
        {"0.0.0.0:9", "127.0.0.1:9"},           {"[::]:9", "[::1]:9"},
        {"[2001:db8::1]:9", "[2001:db8::1]:9"}, {"unix:/run/pm.sock", "unix:/run/pm.sock"},
        {"http://edge-1:8081", "edge-1:8081"},  {"https://edge-1:8081/", "edge-1:8081"},
        {"HTTPS://:9", "127.0.0.1:9"},          {"https://[::]:9", "[::1]:9"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char address[100];
        client_address(rows[i][0], address, sizeof address);
        assert_string_equal(address, rows[i][1]);
    }
    assert_true(client_is_https("https://edge-1:8081"));
    assert_false(client_is_https("http://edge-1:8081"));
    assert_false(client_is_https("https:8081"));
    assert_false(client_is_https("edge-1:8081"));
    static const char *const local[] = {"127.0.0.1:8081", "127.1.2.3", "localhost:8081",
                                        "LOCALHOST",      "[::1]:9",   "unix:/run/pm.sock"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        assert_true(client_is_local(local[i]));
    }
    static const char *const foreign[] = {"10.0.0.1:8081",
                                          "edge-1:8081",
                                          "127.0.0.1.elsewhere.example:80",
                                          "localhost.example",
                                          "localhost:80@elsewhere",
                                          "127.0.0.1:80@elsewhere",
                                          "[::1]:80@elsewhere",
                                          "[::1].elsewhere",
                                          "[2001:db8::1]:9",
                                          "127.1:80",
                                          ""};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        assert_false(client_is_local(foreign[i]));
    }
    struct buf path;
    buf_init(&path, 0);
    path_put_key(&path, STR("*.example.com/a b/%20"));
    buf_put_char(&path, ' ');
    path_put_segment(&path, STR("unix:/run/x"));
    buf_put_char(&path, '\0');
    assert_string_equal(path.p, "%2A.example.com/a%20b/%2520 unix%3A%2Frun%2Fx");
    buf_fini(&path);
}

int main(void)
{
    // What the caller's environment sets does not belong to these tests.
    static const char *const names[] = {
        "POINTSMAN_CONFIG", "POINTSMAN_ADMIN",   "POINTSMAN_HTTP",   "POINTSMAN_STORE",
        "POINTSMAN_LOG",    "POINTSMAN_WORKERS", "POINTSMAN_BINARY", "POINTSMAN_RELEASE_BINARY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unsetenv(names[i]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_flag_over_environment_over_file),
        cmocka_unit_test(test_wrong_use),
        cmocka_unit_test(test_wrong_settings),
        cmocka_unit_test(test_words_and_flags),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_pool_flags),
        cmocka_unit_test(test_switch_targets),
        cmocka_unit_test(test_client_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
