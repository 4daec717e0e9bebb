// SPDX-License-Identifier: MIT
#include "cli/client.h"
#include "cli/cli.h"
#include "cli/options.h"
#include <ctype.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    ADDRESS_MAX = 300,
    TOKEN_MAX = 512,      // bytes of a token
    ANSWER_MAX = 1 << 30, // bytes of an answer: a batch of a million lines
    CONNECT_TIMEOUT_SEC = 5,
    STALL_TIMEOUT_SEC = 120, // without a byte
};

struct client {
    CURL *curl;
    struct curl_slist *headers; // those of each call
    char address[ADDRESS_MAX];
    bool is_https;
    bool is_insecure;    // any certificate will do
    const char *ca_file; // into argv; NULL: the system's
    bool has_token;
    unsigned stall_sec;
    char error[CURL_ERROR_SIZE];
};

// What comes back goes here.
struct sink {
    struct client *client;
    struct answer *answer;
    bool (*take)(void *context, struct str data); // NULL: all into the answer
    void *context;
};

// The token in the file; without the file, or the right to read it, there is none.
static void read_token(const char *path, char *token)
{
    token[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return;
    }
    ssize_t len = read(fd, token, TOKEN_MAX - 1);
    close(fd);
    struct str text = str_trim(str_make(token, len > 0 ? (size_t)len : 0));
    while (text.len > 0 && isspace((unsigned char)text.p[text.len - 1])) {
        text.len--;
    }
    memmove(token, text.p, text.len);
    token[text.len] = '\0';
}

// The configuration as far as a client needs it. Faults in the environment do not concern it.
static int read_config(const struct args *args, struct config *config)
{
    struct problems problems;
    problems_init(&problems);
    const char *file = args_flag(args, "config");
    int status = CLI_DONE;
    if (file != NULL && config_read_file(config, file, &problems) != 0) {
        cli_print_problems(&problems);
        status = CLI_FAILED;
    }
    struct problems ignored;
    problems_init(&ignored);
    int err = config_read_environment(config, environ, &ignored);
    (void)err;
    problems_fini(&ignored);
    problems_fini(&problems);
    return status;
}

static int set_up_curl(struct client *client, const char *token)
{
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        return CLI_FAILED;
    }
    char header[TOKEN_MAX + 32];
    const char *fixed[] = {"Expect:", "Accept: application/json, */*", header};
    snprintf(header, sizeof header, "Authorization: Bearer %s", token);
    client->has_token = token[0] != '\0';
    client->stall_sec = STALL_TIMEOUT_SEC;
    for (unsigned i = 0; i < (client->has_token ? 3u : 2u); i++) {
        struct curl_slist *list = curl_slist_append(client->headers, fixed[i]);
        if (list == NULL) {
            explicit_bzero(header, sizeof header);
            return CLI_FAILED;
        }
        client->headers = list;
    }
    explicit_bzero(header, sizeof header);
    return CLI_DONE;
}

// The token for this address. That of the file is this machine's secret: it goes nowhere but to this
// machine or to the address that the configuration names with it. Anywhere else it would be a gift to
// whoever answers there, in clear text.
static void choose_token(const struct client *client, const struct config *config,
                         const char *configured, char *token)
{
    token[0] = '\0';
    if (config->admin.token != NULL && config->admin.token[0] != '\0') {
        str_copy(token, TOKEN_MAX, str_from_c(config->admin.token));
        return;
    }
    char own[ADDRESS_MAX];
    client_address(configured, own, sizeof own);
    bool is_own = strcmp(client->address, own) == 0 &&
                  (client->is_https || !client_is_https(configured)); // not in clear text instead
    if (config->admin.token_file != NULL && (client_is_local(client->address) || is_own)) {
        read_token(config->admin.token_file, token);
    }
}

// The address as it was configured, flags apart. The server's setting knows no scheme, which a client
// may need.
static const char *configured_address(const struct config *config)
{
    const char *given = getenv("POINTSMAN_ADMIN");
    return given != NULL && strstr(given, "://") != NULL ? given : config->admin.address;
}

static int choose_address(const struct args *args, const struct config *config,
                          struct client *client)
{
    const char *given = args_flag(args, "admin");
    const char *text = given != NULL ? given : configured_address(config);
    client_address(text, client->address, sizeof client->address);
    client->is_https = client_is_https(text);
    client->ca_file = args_flag(args, "ca");
    client->is_insecure = args_flag(args, "insecure") != NULL;
    if (!client->is_https && (client->ca_file != NULL || client->is_insecure)) {
        fprintf(stderr, "pointsman: --%s needs an admin address with https://\n",
                client->is_insecure ? "insecure" : "ca");
        return CLI_WRONG_USE;
    }
    if (client->is_insecure && client->ca_file != NULL) {
        fputs("pointsman: either --ca or --insecure\n", stderr);
        return CLI_WRONG_USE;
    }
    return CLI_DONE;
}

int client_open(const struct args *args, struct client **client_out)
{
    *client_out = NULL;
    struct config config;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || config_init(&config) != 0) {
        free(client);
        fputs("pointsman: out of memory\n", stderr);
        return CLI_FAILED;
    }
    int status = read_config(args, &config);
    if (status == CLI_DONE) {
        status = choose_address(args, &config, client);
    }
    if (status == CLI_DONE) {
        char token[TOKEN_MAX];
        choose_token(client, &config, configured_address(&config), token);
        status = set_up_curl(client, token);
        explicit_bzero(token, sizeof token);
        if (status != CLI_DONE) {
            fputs("pointsman: out of memory\n", stderr);
        }
    }
    config_fini(&config);
    if (status != CLI_DONE) {
        client_close(&client);
    }
    *client_out = client;
    return status;
}

void client_set_stall(struct client *client, unsigned seconds)
{
    client->stall_sec = seconds;
}

void client_close(struct client **client)
{
    if (*client == NULL) {
        return;
    }
    curl_easy_cleanup((*client)->curl);
    for (struct curl_slist *item = (*client)->headers; item != NULL; item = item->next) {
        explicit_bzero(item->data, strlen(item->data)); // one holds the token
    }
    curl_slist_free_all((*client)->headers);
    free(*client);
    *client = NULL;
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
    struct sink *sink = context;
    size_t len = size * count;
    long status = 0;
    curl_easy_getinfo(sink->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (sink->take != NULL && status == 200) {
        return sink->take(sink->context, str_make(data, len)) ? len : 0;
    }
    buf_put(&sink->answer->body, str_make(data, len));
    return sink->answer->body.failed ? 0 : len;
}

static void set_target(struct client *client, const char *path, struct buf *url)
{
    bool is_unix = strncmp(client->address, "unix:", 5) == 0;
    buf_init(url, 0);
    buf_printf(url, "%s://%s%s", client->is_https ? "https" : "http",
               is_unix ? "localhost" : client->address, path);
    buf_put_char(url, '\0');
    curl_easy_reset(client->curl); // keeps the connection
    if (is_unix) {
        curl_easy_setopt(client->curl, CURLOPT_UNIX_SOCKET_PATH, client->address + 5);
    }
    curl_easy_setopt(client->curl, CURLOPT_URL, url->p);
    curl_easy_setopt(client->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(client->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(client->curl, CURLOPT_PROTOCOLS_STR, client->is_https ? "https" : "http");
    // One call after the other: there is nothing to multiplex.
    curl_easy_setopt(client->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (client->ca_file != NULL) {
        curl_easy_setopt(client->curl, CURLOPT_CAINFO, client->ca_file);
        curl_easy_setopt(client->curl, CURLOPT_CAPATH, NULL);
    }
    if (client->is_insecure) {
        curl_easy_setopt(client->curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(client->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    curl_easy_setopt(client->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->curl, CURLOPT_USERAGENT, "pointsman/" POINTSMAN_VERSION);
    curl_easy_setopt(client->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_SEC);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(client->curl, CURLOPT_LOW_SPEED_TIME, (long)client->stall_sec);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, client->error);
}

static int report_failure(const struct client *client, CURLcode code, long status)
{
    const char *reason = client->error[0] != '\0' ? client->error : curl_easy_strerror(code);
    if (code == CURLE_WRITE_ERROR) {
        return CLI_FAILED; // our own doing: whoever refused has said why
    }
    if (status != 0) {
        fprintf(stderr, "pointsman: the answer of %s broke off: %s\n", client->address, reason);
        return CLI_FAILED;
    }
    fprintf(stderr, "pointsman: cannot reach the admin API at %s: %s\n", client->address, reason);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST) {
        fputs("pointsman: is \"pointsman serve\" running? --admin ADDR or POINTSMAN_ADMIN names "
              "another address\n",
              stderr);
    } else if (code == CURLE_PEER_FAILED_VERIFICATION) {
        fputs(
            "pointsman: --ca FILE names whom to trust; --insecure takes any certificate, also the "
            "one that the server made for itself\n",
            stderr);
    }
    return CLI_FAILED;
}

static int perform(struct client *client, struct sink *sink, const char *method, const char *path,
                   const char *type, struct str body)
{
    struct buf url;
    set_target(client, path, &url);
    struct curl_slist *headers = client->headers;
    struct curl_slist type_header = {.next = client->headers};
    char type_text[100];
    if (type != NULL) {
        snprintf(type_text, sizeof type_text, "Content-Type: %s", type);
        type_header.data = type_text;
        headers = &type_header;
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, body.len > 0 ? body.p : "");
    }
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, sink);
    client->error[0] = '\0';
    CURLcode code = url.failed ? CURLE_OUT_OF_MEMORY : curl_easy_perform(client->curl);
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    sink->answer->status = (unsigned)status;
    buf_fini(&url);
    return code == CURLE_OK ? CLI_DONE : report_failure(client, code, status);
}

int client_call(struct client *client, const char *method, const char *path, const char *type,
                struct str body, struct answer *answer)
{
    buf_init(&answer->body, ANSWER_MAX);
    struct sink sink = {.client = client, .answer = answer};
    return perform(client, &sink, method, path, type, body);
}

int client_read(struct client *client, const char *path,
                bool (*take)(void *context, struct str data), void *context, struct answer *answer)
{
    buf_init(&answer->body, ANSWER_MAX);
    struct sink sink = {client, answer, take, context};
    return perform(client, &sink, "GET", path, NULL, STR_NULL);
}

void answer_fini(struct answer *answer)
{
    buf_fini(&answer->body);
}

json_t *client_answer_json(const struct answer *answer)
{
    json_error_t error;
    json_t *json = json_loadb(answer->body.p, answer->body.len, JSON_DECODE_ANY, &error);
    if (json == NULL) {
        fprintf(stderr, "pointsman: the server's answer is not JSON: %s\n", error.text);
    }
    return json;
}

static void report_errors(const char *subject, const json_t *errors)
{
    size_t i;
    json_t *error;
    json_array_foreach(errors, i, error)
    {
        // What is wrong with a target itself, not with how it is declared, comes with its address.
        const char *pointer = json_string_value(json_object_get(error, "address"));
        if (pointer == NULL) {
            pointer = json_string_value(json_object_get(error, "pointer"));
        }
        const char *detail = json_string_value(json_object_get(error, "detail"));
        fprintf(stderr, "pointsman: %s: %s%s%s\n", subject, pointer != NULL ? pointer : "",
                pointer != NULL && pointer[0] != '\0' ? ": " : "", detail != NULL ? detail : "");
    }
}

int answer_report(const struct answer *answer, const char *subject)
{
    json_t *json = json_loadb(answer->body.p, answer->body.len, 0, NULL);
    const json_t *errors = json_object_get(json, "errors");
    if (json_array_size(errors) > 0) {
        report_errors(subject, errors);
    } else {
        const char *text = json_string_value(json_object_get(json, "detail"));
        if (text == NULL || text[0] == '\0') {
            text = json_string_value(json_object_get(json, "title"));
        }
        fprintf(stderr, "pointsman: %s: %s (status %u)\n", subject, text != NULL ? text : "refused",
                answer->status);
    }
    if (answer->status == 401) {
        fputs("pointsman: the token is missing or wrong: POINTSMAN_TOKEN or the token file "
              "(admin.token) gives it; the file's token is sent to this machine and to the "
              "address of the configuration only\n",
              stderr);
    }
    json_decref(json);
    return CLI_FAILED;
}
